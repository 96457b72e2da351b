// `demo.counter` counts ten times a second and leaves nothing out, so it proves what came of an absence:
// how many numbers were missed, how many of them were replayed, and how many are lost.

import { finite } from "./words.ts";

const STROKES_MAX = 400;
/** Anyone may publish here. A number so far off is a stranger's, unless it goes on from there. */
const LEAP = 10_000;
const STRANGE_MAX = 5;

export type How = "live" | "replayed" | "lost";

/** One number, and how it came. */
export interface Stroke {
  readonly n: number;
  readonly at: number;
  readonly how: How;
}

/** What an absence cost. */
export interface Absence {
  readonly from: number;
  /** When the first number came that was not replayed; open until then. */
  to?: number;
  replayed: number;
  lost: number;
  /** Why nobody knows how many were missed. */
  unknown?: string;
}

export class Counter {
  /** Newest last. */
  readonly strokes: Stroke[] = [];
  readonly absences: Absence[] = [];
  newest: number | undefined;
  received = 0;
  lost = 0;
  #strange = 0;

  /** The connection is gone. */
  left(now: number): void {
    if (this.newest !== undefined && this.away === undefined) this.absences.push({ from: now, replayed: 0, lost: 0 });
    if (this.absences.length > 60) this.absences.shift();
  }

  /** The absence that is not over yet. */
  get away(): Absence | undefined {
    const last = this.absences.at(-1);
    return last?.to === undefined ? last : undefined;
  }

  /** The last one that is over. */
  get absence(): Absence | undefined {
    return this.absences.findLast(({ to }) => to !== undefined);
  }

  /** What comes next may be of another history, and count from anywhere. */
  broke(reason: string): void {
    if (reason === "history_trimmed") return; // the next number tells how many
    if (this.away) this.away.unknown = reason;
    this.newest = undefined;
  }

  /** Takes what came; gives the absence that this number ends. */
  take(data: unknown, at: number, replayed: boolean, now: number): Absence | undefined {
    const n = finite((data as { n?: unknown } | null)?.n);
    if (n === undefined || !Number.isSafeInteger(n)) return undefined;
    const before = this.newest;
    const away = this.away;
    if (before !== undefined && (n <= before || (n - before > LEAP && !away))) {
      this.#strange += 1;
      if (this.#strange >= STRANGE_MAX) this.newest = n;
      return undefined;
    }
    this.#strange = 0;
    const hole = before === undefined ? 0 : n - before - 1;
    this.lost += hole;
    const since = this.strokes.at(-1)?.at ?? at;
    for (let i = Math.max(1, hole - STROKES_MAX); before !== undefined && i <= hole; i += 1) {
      this.#stroke({ n: before + i, at: since + ((at - since) * i) / (hole + 1), how: "lost" });
    }
    this.#stroke({ n, at, how: away && replayed ? "replayed" : "live" });
    this.newest = n;
    this.received += 1;
    if (!away) return undefined;
    away.lost += hole;
    if (replayed) {
      away.replayed += 1;
      return undefined;
    }
    away.to = now;
    return away;
  }

  #stroke(stroke: Stroke): void {
    this.strokes.push(stroke);
    if (this.strokes.length > STROKES_MAX) this.strokes.shift();
  }
}
