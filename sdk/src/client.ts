// The client: what an application holds. It keeps its Feeds, its maps and its Asks, and gives them to the Line.

import type { Answer, AskCommand } from "./ask.ts";
import type { WireFrom } from "./codec.ts";
import type { CursorStore } from "./cursor.ts";
import type { TidegateError } from "./error.ts";
import { Events, onAbort } from "./events.ts";
import type { Listen } from "./events.ts";
import { Feed } from "./feed.ts";
import type { FeedOwner, Receiver } from "./feed.ts";
import { Line } from "./line.ts";
import type { LineOwner } from "./line.ts";
import { Table } from "./live.ts";
import type { LiveMap } from "./live.ts";
import { patternOf } from "./pattern.ts";
import type { Origin, Pattern } from "./pattern.ts";
import type { Publication } from "./publication.ts";
import type { Session } from "./session.ts";
import { FeedSubscription } from "./subscription.ts";
import type { Subscriber, SubscribeOptions, Subscription } from "./subscription.ts";
import type { TokenProvider } from "./token.ts";
import { topicOf } from "./topic.ts";
import type { Topic } from "./topic.ts";
import type { Transport } from "./transport.ts";

export interface ClientOptions {
  /** The gateway's root. Default: the page's own origin. */
  url?: string | URL;
  /** A Token, or whom to ask for one. Default: none, for anonymous clients. */
  token?: string | TokenProvider;
  /** In order of preference. Default: `[webSocket()]`. */
  transports?: readonly Transport[];
  /** What to do while the page is hidden. Default: `keep`. */
  hidden?: "keep" | { afterMs: number; then: "pause" | "disconnect" };
  retry?: Partial<Retry>;
  /** Where places are kept beyond the life of a Subscription. Default: nowhere. */
  cursors?: CursorStore | false;
  /** Closes the client. */
  signal?: AbortSignal;
}

/** When to try again, where the gateway says nothing. */
export interface Retry {
  /** The bound of the first wait. Each wait is a random part of its bound. Default: 500. */
  minMs: number;
  /** No bound is larger. Default: 30,000. */
  maxMs: number;
  /** Of one bound to the one before. Default: 2. */
  factor: number;
  /** Bounds begin anew after a connection of this length. Default: 5,000. */
  stableAfterMs: number;
  /** Failures in a row before the client gives up. Default: it never does. */
  maxAttempts: number;
}

/**
 * - `idle`: nobody wanted anything yet
 * - `connecting`, `connected`
 * - `waiting`: the connection is lost; `retryAt` says when it is tried again
 * - `offline`: the same, or perhaps so: the browser says that there is no network
 * - `paused`: as the page is hidden or left
 * - `closed`: for good
 */
export type ClientState = "idle" | "connecting" | "connected" | "waiting" | "offline" | "paused" | "closed";

/** What a node allows one connection. */
export interface Limits {
  readonly messageBytes: number;
  readonly subscriptions: number;
  readonly commandsPerSecond: number;
  readonly outboxBytes: number;
  readonly snapshotTopics: number;
}

export interface Connection {
  /** Unique over nodes and restarts. */
  readonly id: string;
  readonly node: string;
  /** The name of its Transport. */
  readonly transport: string;
  /** When its Token ends, unless it is renewed. */
  readonly expiresAt?: Date | undefined;
  readonly heartbeatMs: number;
  readonly limits: Limits;
}

export type ClientEvents = {
  state: ClientState;
  /** Whether the node reaches the other nodes, and they it. */
  bus: { readonly connected: boolean };
  /** What nobody else is told: refused or failed attempts to connect, Tokens that cannot be had. */
  error: TidegateError;
  /** How long a ping took. */
  latency: { readonly ms: number };
};

/** `T` maps Topics to the types of what is published there; template-literal keys work. */
export interface Client<T extends object = Record<string, unknown>> extends AsyncDisposable {
  readonly state: ClientState;
  /** While there is one. */
  readonly connection?: Connection | undefined;
  /** While it is waited for. */
  readonly retryAt?: Date | undefined;
  /** Optional: the first Subscription and the first publish connect, too. */
  connect(options?: { signal?: AbortSignal }): Promise<Connection>;
  /** Ends it and all of its Subscriptions, for good. */
  close(): Promise<void>;
  topic<K extends keyof T & string>(name: K): Topic<T[K]>;
  pattern<M = unknown>(name: string): Pattern<M>;
  on: Listen<ClientEvents>;
}

export function createClient<T extends object = Record<string, unknown>>(options: ClientOptions = {}): Client<T> {
  return new Core<T>(options);
}

export class Core<T extends object = Record<string, unknown>> implements Client<T>, Subscriber, Origin, FeedOwner, LineOwner {
  readonly #events = new Events<ClientEvents>();
  readonly on = this.#events.on;
  readonly #line: Line;
  readonly #feeds = new Map<string, Feed>();
  readonly #tables = new Map<string, Table<unknown>>();
  /** Whether Feeds have changed in this turn. */
  #changed = false;
  readonly #cursors: CursorStore | undefined;
  /** Those whose places are stored. */
  readonly #remembered = new Set<Pick<Subscription, "pattern" | "state" | "cursor">>();

  constructor(options: ClientOptions) {
    this.#cursors = options.cursors || undefined;
    this.#line = new Line(options, this, this.#events);
    this.on("bus", ({ connected }) => {
      for (const table of this.#tables.values()) table.bus(connected);
    });
    onAbort(options.signal, () => void this.close());
  }

  // What the application asks for.

  get state(): ClientState {
    return this.#line.state;
  }

  get connection(): Connection | undefined {
    return this.#line.connection;
  }

  get retryAt(): Date | undefined {
    return this.#line.retryAt;
  }

  connect({ signal }: { signal?: AbortSignal } = {}): Promise<Connection> {
    const { promise, resolve, reject } = Promise.withResolvers<Connection>();
    const look = (): void => {
      if (this.connection) resolve(this.connection);
      if (this.state === "closed") reject(this.#line.why);
    };
    const stops = [this.on("state", look), onAbort(signal, () => reject(signal?.reason))];
    look();
    this.#line.wake();
    return promise.finally(() => stops.forEach((stop) => stop()));
  }

  async close(): Promise<void> {
    this.#line.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  topic<K extends keyof T & string>(name: K): Topic<T[K]> {
    return topicOf<T[K]>(this, name);
  }

  pattern<M = unknown>(name: string): Pattern<M> {
    return patternOf<M>(this, name);
  }

  // What Topics, Patterns and Subscriptions ask for.

  subscribe<M>(
    pattern: string,
    from: WireFrom | undefined,
    receive: ((publication: Publication<M>) => void) | undefined,
    options: SubscribeOptions<M, unknown>,
  ): Subscription<M> {
    const cursor = from === undefined ? this.#cursors?.get(pattern) : undefined;
    const begin = from ?? (cursor === undefined ? "live" : { cursor });
    const subscription = new FeedSubscription<M>(this, pattern, begin, receive, options);
    if (from === undefined && this.#cursors) this.#remembered.add(subscription);
    return subscription;
  }

  live<M>(pattern: string, signal: AbortSignal | undefined): LiveMap<M> {
    for (const [name, table] of this.#tables) if (table.ended) this.#tables.delete(name);
    const table = this.#tables.get(pattern) ?? new Table(() => this.subscribe(pattern, "last", undefined, {}));
    this.#tables.set(pattern, table);
    const map = table.use() as LiveMap<M>;
    onAbort(signal, () => void map[Symbol.asyncDispose]());
    return map;
  }

  enter(pattern: string, receiver: Receiver): void {
    if (this.state === "closed") return queueMicrotask(() => receiver.end(this.#line.why));
    const feed = this.#feeds.get(pattern) ?? new Feed(pattern, receiver.from, this);
    this.#feeds.set(pattern, feed);
    feed.add(receiver);
    this.changed();
    this.#line.wake();
  }

  leave(pattern: string, receiver: Receiver): void {
    const feed = this.#feeds.get(pattern);
    feed?.remove(receiver);
    this.remember();
    if (!feed?.empty) return;
    feed.end();
    this.#feeds.delete(pattern);
    this.changed();
  }

  ask(command: AskCommand, signal?: AbortSignal): Promise<Answer> {
    return this.#line.ask(command, signal);
  }

  /** Asks whether the gateway is there, and ends the connection if it is not; the answer is a `latency`. */
  awake(): void {
    this.#line.awake();
  }

  // What Feeds ask for.

  changed(): void {
    if (this.#changed) return;
    this.#changed = true;
    queueMicrotask(() => {
      this.#changed = false;
      this.#line.sync();
    });
  }

  forget(feed: Feed, but?: Session): void {
    this.#line.forget(feed, but);
    this.changed();
  }

  // What the Line asks for, and tells.

  feeds(): Feed[] {
    return [...this.#feeds.values()].filter(({ wanted }) => wanted);
  }

  /** Stores how far Subscriptions have come. */
  remember(): void {
    for (const subscription of this.#remembered) {
      const { pattern, cursor } = subscription;
      if (cursor !== undefined) this.#cursors?.set(pattern, cursor);
      if (subscription.state === "ended") this.#remembered.delete(subscription);
    }
  }

  closed(error: TidegateError | undefined): void {
    this.remember();
    for (const feed of [...this.#feeds.values()]) feed.end(error);
  }
}
