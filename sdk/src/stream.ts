// A Stream: one answer of `GET /v1/events`, from the asking to its end, and how far it has come.
//
// It reads what comes and notices when nothing does. Whose that is, and what follows from its end, is for the Link.

import { createParser } from "eventsource-parser";
import { Alarm } from "./alarm.ts";
import { decode } from "./codec.ts";
import type { Frame, WireFrom } from "./codec.ts";
import { lost, problem } from "./problem.ts";
import type { Problem } from "./problem.ts";

/** A node says something every 12 s, if only a comment; beyond that, as long as a Session waits. */
const SILENCE_MS = 12_000 + 10_000;
/** Who has slept listens so long before it judges: what came meanwhile may still wait to be read. */
const AWAKE_MS = 3_000;

/** A Pattern that is subscribed to. */
export interface Wanted {
  /** The `id` of its `subscribe`. */
  readonly id: number;
  readonly pattern: string;
  readonly matches: RegExp;
  readonly namespace: string;
  /** Where it begins, or goes on. */
  from: WireFrom;
  /** Why not all behind `from` can be had. */
  reason?: string;
  /** Whether it had its `subscribed`; and all of its parts. */
  answered?: boolean;
  live?: boolean;
  /** Whether it cannot begin with those that go on by a Cursor. */
  alone?: boolean;
  /** The Stream that brings it, once that had all that it missed. */
  by?: Stream;
}

export interface StreamListener {
  /** A `ping` says that nothing else waits to be sent. */
  heard(stream: Stream, frame: Frame): void;
  /** Comes once, and nothing after it. */
  ended(stream: Stream, why: Problem): void;
}

export class Stream {
  readonly wanted: ReadonlyMap<string, Wanted>;
  /** Those that it has not got all of what they missed. */
  readonly behind: Set<Wanted>;
  /** How far each kept Namespace has come. */
  readonly places: Map<string, string>;
  /** The Namespaces with which another Stream goes on. */
  readonly passed = new Set<string>();
  /** Whether it brings what its Patterns missed, and then waits for another to take them in. */
  readonly aside: boolean;
  readonly #stop = new AbortController();
  #listener: StreamListener | undefined;
  /** When to come back, if it is cut off. */
  #retryMs: number | undefined;
  readonly #silence = new Alarm((late) => (late ? this.#silence.set(AWAKE_MS) : this.#end()));

  constructor(
    address: string,
    headers: Record<string, string>,
    wanted: readonly Wanted[],
    places: Map<string, string>,
    aside: boolean,
    listener: StreamListener,
  ) {
    this.wanted = new Map(wanted.map((one) => [one.pattern, one]));
    this.behind = new Set(wanted);
    this.places = places;
    this.aside = aside;
    this.#listener = listener;
    this.#silence.set(SILENCE_MS);
    const read = this.#read(address, headers);
    void read.catch(() => undefined).then((why) => this.#end(why));
  }

  close(): void {
    this.#listener = undefined;
    this.#silence.clear();
    this.#stop.abort();
  }

  /** To its end, or gives why it did not begin. */
  async #read(address: string, headers: Record<string, string>): Promise<Problem | undefined> {
    const response = await fetch(address, {
      headers: { ...headers, accept: "text/event-stream" },
      signal: this.#stop.signal,
    });
    if (!response.ok) return problem(response);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const parser = createParser({
      onRetry: (ms) => (this.#retryMs = ms),
      onComment: () => this.#listener?.heard(this, { type: "ping" }),
      onEvent: ({ event, data }) => this.#take(event, data),
    });
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      this.#silence.set(SILENCE_MS);
      parser.feed(next.value);
    }
    return undefined;
  }

  #take(event: string | undefined, data: string): void {
    if (event === "close") {
      const { code, retry, ms = this.#retryMs } = JSON.parse(data);
      return this.#end({ code, message: "", retryable: retry, retry_after_ms: ms });
    }
    const frame = decode(data);
    if (frame) this.#listener?.heard(this, frame);
  }

  #end(why = lost(this.#retryMs)): void {
    const listener = this.#listener;
    this.close();
    listener?.ended(this, why);
  }
}
