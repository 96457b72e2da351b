// What a Pattern matches: the newest value of each Topic from a live map, and how often each comes.

import type { LiveMap, Publication, Subscription } from "tidegate";
import { client } from "./gateway.ts";

/** So many rows are shown; the map itself holds what the node's snapshot may. */
export const TOPICS_MAX = 200;
/** Topics come and go while nobody draws. */
const ENTRIES_MAX = 2_000;
const SECONDS = 5;

/** One Topic's row. */
export interface Entry {
  readonly topic: string;
  data: unknown;
  /** The newest one, unless it came before this page did. */
  newest?: Publication<unknown>;
  at?: number;
  ticks: { second: number; count: number }[];
}

export class Watch {
  readonly pattern: string;
  readonly entries = new Map<string, Entry>();
  #map: LiveMap<unknown>;
  #subscription: Subscription<unknown>;
  #seen?: ReadonlyMap<string, unknown>;

  constructor(pattern: string, heard: (publication: Publication<unknown>) => void) {
    this.pattern = pattern;
    const one = client.pattern(pattern);
    this.#map = one.live();
    this.#subscription = one.subscribe((publication) => {
      this.#take(publication, Date.now());
      heard(publication);
    });
  }

  /** Done when all values are there; fails if the node refuses the Pattern. */
  get synced(): Promise<unknown> {
    return Promise.all([this.#map.synced, this.#subscription.ready]);
  }

  get stale(): boolean {
    return this.#map.stale;
  }

  /** How many Topics have a value. */
  get size(): number {
    return this.#map.snapshot().size;
  }

  /** The rows by name. */
  rows(): Entry[] {
    const snapshot = this.#map.snapshot();
    if (snapshot !== this.#seen) {
      this.#seen = snapshot;
      for (const topic of this.entries.keys()) if (!snapshot.has(topic)) this.entries.delete(topic);
      for (const [topic, data] of snapshot) {
        const entry = this.#entry(topic);
        entry.data = data;
      }
    }
    const rows = [...this.entries.values()].filter(({ topic }) => snapshot.has(topic));
    rows.sort((a, b) => (a.topic < b.topic ? -1 : 1));
    return rows.slice(0, TOPICS_MAX);
  }

  async end(): Promise<void> {
    await Promise.allSettled([this.#map[Symbol.asyncDispose](), this.#subscription.unsubscribe()]);
  }

  #entry(topic: string): Entry {
    let entry = this.entries.get(topic);
    if (!entry) this.entries.set(topic, (entry = { topic, data: undefined, ticks: [] }));
    return entry;
  }

  #take(publication: Publication<unknown>, now: number): void {
    if (this.entries.size >= ENTRIES_MAX && !this.entries.has(publication.topic)) return;
    const entry = this.#entry(publication.topic);
    entry.newest = publication;
    entry.at = now;
    const second = Math.floor(now / 1000);
    const last = entry.ticks.at(-1);
    if (last?.second === second) last.count += 1;
    else entry.ticks.push({ second, count: 1 });
    if (entry.ticks.length > SECONDS + 2) entry.ticks.shift();
  }
}

/** Over the last whole seconds. */
export function rate({ ticks }: Entry, now: number): number {
  const second = Math.floor(now / 1000);
  const sum = ticks.reduce((sum, tick) => (tick.second >= second - SECONDS && tick.second < second ? sum + tick.count : sum), 0);
  const whole = Math.min(SECONDS, second - (ticks[0]?.second ?? second));
  return whole > 0 ? sum / whole : 0;
}
