// A Subscription: what one part of an application receives of a Pattern, and how that goes.

import type { WireFrom } from "./codec.ts";
import { EPOCH_CHANGED, Place } from "./cursor.ts";
import type { Cursor } from "./cursor.ts";
import { TidegateError } from "./error.ts";
import { Events, onAbort } from "./events.ts";
import type { Listen } from "./events.ts";
import type { Receiver } from "./feed.ts";
import type { From } from "./pattern.ts";
import type { Publication } from "./publication.ts";
import { Queue } from "./queue.ts";
import type { QueueOptions } from "./queue.ts";

/**
 * Why something is missing. Of the gateway: `history_trimmed` (no longer kept, or never was), `epoch_changed`
 * (the history is another one), `replay_limit` (too far behind), `bus_interrupted` (the way from the publishers
 * was broken), `slow_consumer` and `conflated`; of this client: the last two for its own queue, and
 * `connection_lost` where nothing is kept. There may be others one day.
 */
export type GapReason =
  | "history_trimmed"
  | "epoch_changed"
  | "replay_limit"
  | "bus_interrupted"
  | "slow_consumer"
  | "conflated"
  | "connection_lost"
  | (string & {});

/** Something was lost. What has been built up of this Subscription may be stale. */
export interface Gap {
  readonly reason: GapReason;
  /** How many, if that is known. */
  readonly missed?: number | undefined;
  /** Whether it was lost while this Subscription was away: between its place and its return. */
  readonly resumed: boolean;
}

/** How a Subscription began. */
export interface Ready {
  /** Whether it is proven that nothing behind `from` is missing. */
  readonly recovered: boolean;
  /** How many Publications came from history. */
  readonly replayed: number;
  /** Why it is not `recovered`. */
  readonly reason?: GapReason | undefined;
}

/**
 * - `pending`: asked for, not yet answered
 * - `recovering`: what was missed is on its way, or the connection is lost
 * - `live`: nothing is between it and the publishers
 * - `paused`: by `pause()`
 * - `ended`: for good
 */
export type SubscriptionState = "pending" | "live" | "recovering" | "paused" | "ended";

export interface SubscribeOptions<M, F = From> {
  /** Default: `live`, or the place that the client's `cursors` remember. */
  from?: F;
  /** What may wait for the `for await` loop. Default: 1,000, of which the oldest give way. */
  queue?: QueueOptions;
  /** Judges each `data` before it is handed on, and gives it its type. If it throws, that is an `error`. */
  validate?: (data: unknown) => M;
  /** Unsubscribes. */
  signal?: AbortSignal;
}

export type SubscriptionEvents<M> = {
  message: Publication<M>;
  state: SubscriptionState;
  gap: Gap;
  error: TidegateError;
};

export interface Subscription<M = unknown> extends AsyncIterable<Publication<M>>, AsyncDisposable {
  /** Of the Pattern, as nodes write it. */
  readonly pattern: string;
  readonly state: SubscriptionState;
  /** How far it has come: `from` for going on here. None where nothing is kept. */
  readonly cursor?: Cursor | undefined;
  /** When it is live for the first time and all that was missed has come. Rejects if it ends before. */
  readonly ready: Promise<Ready>;
  on: Listen<SubscriptionEvents<M>>;
  /** Receives nothing until `resume()`, which goes on from here where history is kept, else with a `gap`. */
  pause(): void;
  resume(): void;
  /** Resolves when nothing comes any more. */
  unsubscribe(): Promise<void>;
}

/** The client, as its Subscriptions see it. */
export interface Subscriber {
  /** Puts it onto the Feed of its Pattern. */
  enter(pattern: string, receiver: Receiver): void;
  leave(pattern: string, receiver: Receiver): void;
}

export class FeedSubscription<M> implements Subscription<M>, Receiver {
  readonly pattern: string;
  from: WireFrom;
  state: SubscriptionState = "pending";
  readonly #client: Subscriber;
  readonly #options: SubscribeOptions<M, unknown>;
  readonly #events = new Events<SubscriptionEvents<M>>();
  readonly #begun = Promise.withResolvers<Ready>();
  #replayed = 0;
  /** The first loss. */
  #loss: GapReason | undefined;
  /** Whether it comes back from a pause. */
  #returning = false;
  /** The last that it was given; and the last that its loop has taken. */
  readonly #place = new Place();
  #taken: Cursor | undefined;
  /** For the loop, which may begin later; gone as soon as it shows that there is none. */
  #queue: Queue<Publication<M>> | undefined;
  #looping = false;
  /** Listens to the signal no more. */
  #deafen = (): void => {};

  constructor(
    client: Subscriber,
    pattern: string,
    from: WireFrom,
    receive: ((publication: Publication<M>) => void) | undefined,
    options: SubscribeOptions<M, unknown>,
  ) {
    this.#client = client;
    this.pattern = pattern;
    this.from = from;
    this.#options = options;
    this.ready.catch(() => {}); // Whoever asks is told; nobody has to.
    if (receive) this.on("message", receive);
    else this.#queue = new Queue(options.queue);
    client.enter(pattern, this);
    this.#deafen = onAbort(options.signal, () => this.end());
  }

  get ready(): Promise<Ready> {
    return this.#begun.promise;
  }

  get cursor(): Cursor | undefined {
    return this.#queue?.size ? this.#taken : this.#place.cursor;
  }

  readonly on: Listen<SubscriptionEvents<M>> = (event, listener, options) => {
    if (event === "message" && !this.#looping) this.#queue = undefined;
    return this.#events.on(event, listener, options);
  };

  pause(): void {
    if (this.state === "paused" || this.state === "ended") return;
    if (this.#place.cursor) this.from = { cursor: this.#place.cursor };
    else if (this.state === "live") this.from = "live";
    this.#client.leave(this.pattern, this);
    this.#show("paused");
  }

  resume(): void {
    if (this.state !== "paused") return;
    this.#returning = true;
    this.#show("recovering");
    this.#client.enter(this.pattern, this);
  }

  async unsubscribe(): Promise<void> {
    this.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Publication<M>, void> {
    this.#looping = true;
    const queue = (this.#queue ??= new Queue(this.#options.queue));
    if (this.state === "ended") queue.end();
    try {
      for await (const publication of queue) {
        this.#taken = publication.cursor;
        yield publication;
      }
    } finally {
      this.end();
    }
  }

  // What its Feed tells.

  take(publication: Publication): void {
    const { cursor, replayed, topic } = publication;
    if (cursor !== undefined && !this.#reach(cursor)) return;
    if (replayed) this.#replayed += 1;
    const { validate } = this.#options;
    try {
      const valid =
        validate && !publication.deleted ? { ...publication, data: validate(publication.data) } : publication;
      this.#give(valid as Publication<M>);
    } catch (cause) {
      this.error(new TidegateError("invalid_data", `not valid on ${topic}`, { cause }));
    }
  }

  position(cursor: string): void {
    this.#reach(cursor);
  }

  gap(gap: Gap): void {
    this.#loss ??= gap.reason;
    if (gap.reason === EPOCH_CHANGED) this.#place.outdated = true;
    this.#events.emit("gap", { ...gap, resumed: gap.resumed || this.#returning });
  }

  live(): void {
    if (this.#returning && !this.#place.cursor) this.gap({ reason: "connection_lost", resumed: true });
    this.#returning = false;
    this.#begun.resolve({ recovered: this.#loss === undefined, replayed: this.#replayed, reason: this.#loss });
    this.#show("live");
  }

  lost(): void {
    this.#show("recovering");
  }

  error(error: TidegateError): void {
    this.#events.emit("error", error);
  }

  end(error?: TidegateError): void {
    if (this.state === "ended") return;
    this.#client.leave(this.pattern, this);
    this.#deafen();
    this.#begun.reject(error ?? new TidegateError("closed", "ended"));
    this.#queue?.end(error);
    this.#show("ended");
    if (error) this.error(error);
  }

  /** Whether that lies behind its place. */
  #reach(cursor: string): boolean {
    if (this.#place.denies(cursor)) this.gap({ reason: EPOCH_CHANGED, resumed: this.state !== "live" });
    return this.state !== "ended" && this.#place.advance(cursor);
  }

  #give(publication: Publication<M>): void {
    const queue = this.#queue;
    if (queue?.full && queue.onFull === "end") {
      return this.end(new TidegateError("slow_consumer", "too slow"));
    }
    const missed = queue?.push(publication);
    if (missed)
      this.gap({ reason: queue?.onFull === "latest" ? "conflated" : "slow_consumer", missed, resumed: false });
    this.#events.emit("message", publication);
  }

  #show(state: SubscriptionState): void {
    if (state === this.state) return;
    this.state = state;
    this.#events.emit("state", state);
  }
}
