// A LiveMap: the newest value of each Topic that a Pattern matches. A dashboard's table.

import { Events } from "./events.ts";
import type { Publication } from "./publication.ts";
import type { Gap, Subscription } from "./subscription.ts";

/**
 * Begins with the newest values, and stays up to date; after a loss it reads them anew and changes to them at once,
 * so it never shows half of them.
 */
export interface LiveMap<M> extends AsyncDisposable {
  get(topic: string): M | undefined;
  /** All of it; a new object only after a change. */
  snapshot(): ReadonlyMap<string, M>;
  /** Calls `changed` after changes of the values or of `stale`. Returns the way to stop that. */
  subscribe(changed: () => void): () => void;
  /** When all values that there are have come for the first time. Rejects if they cannot be had. */
  readonly synced: Promise<void>;
  /** Whether values may be old: the connection is lost, or that of the node to the others. */
  readonly stale: boolean;
}

/** Losses that the next values make good by themselves. */
const HARMLESS = ["history_trimmed", "conflated"];

/** The one map of a Pattern, for all who asked for it. */
export class Table<M> {
  readonly #synced = Promise.withResolvers<void>();
  #users = 0;
  readonly #subscribe: () => Subscription<M>;
  #subscription: Subscription<M> | undefined;
  #shown = new Map<string, M>();
  /** The last that was handed out, while nothing has changed. */
  #snapshot: ReadonlyMap<string, M> | undefined;
  /** What is on its way to be shown. */
  #coming: Map<string, M> | undefined;
  #bus = true;
  #stale = true;
  readonly #changes = new Events<{ change: void }>();
  #telling = false;

  /** `subscribe` begins with the newest values. */
  constructor(subscribe: () => Subscription<M>) {
    this.#subscribe = subscribe;
    this.#synced.promise.catch(() => {}); // Whoever asks is told; nobody has to.
    this.#sync();
  }

  /** Whether it never changes again: nobody uses it, or it was refused. */
  get ended(): boolean {
    return this.#subscription?.state === "ended";
  }

  /** Whether the node reaches the others. */
  bus(connected: boolean): void {
    this.#bus = connected;
    this.#judge();
  }

  /** For one more. It ends with the last. */
  use(): LiveMap<M> {
    const table = this;
    this.#users += 1;
    let used = true;
    return {
      synced: table.#synced.promise,
      get stale() {
        return table.#stale;
      },
      get: (topic) => table.#shown.get(topic),
      snapshot: () => (table.#snapshot ??= new Map(table.#shown)),
      subscribe: (changed) => table.#changes.on("change", changed),
      async [Symbol.asyncDispose]() {
        const last = used && --table.#users === 0;
        used = false;
        if (last) await table.#subscription?.unsubscribe();
      },
    };
  }

  /** Reads all of it, and shows it when it is complete. */
  #sync(): void {
    const coming = (this.#coming = new Map<string, M>());
    void this.#subscription?.unsubscribe();
    const subscription = this.#subscribe();
    this.#subscription = subscription;
    subscription.on("message", (publication) => this.#take(publication));
    subscription.on("gap", (gap) => this.#gap(gap));
    subscription.on("state", () => this.#judge());
    subscription.ready.then(
      () => this.#coming === coming && this.#show(coming),
      (error) => this.#coming === coming && this.#synced.reject(error),
    );
  }

  #show(coming: Map<string, M>): void {
    this.#coming = undefined;
    this.#shown = coming;
    this.#synced.resolve();
    this.#changed();
    this.#judge();
  }

  #take({ topic, data, deleted }: Publication<M>): void {
    const values = this.#coming ?? this.#shown;
    if (deleted) values.delete(topic);
    else values.set(topic, data);
    if (!this.#coming) this.#changed();
  }

  /** Where nothing is kept there are no newest values to be had: what comes next has to do. */
  #gap({ reason, resumed }: Gap): void {
    const kept = this.#subscription?.cursor !== undefined;
    if (kept && (resumed || !HARMLESS.includes(reason))) this.#sync();
  }

  #judge(): void {
    const stale = this.#coming !== undefined || this.#subscription?.state !== "live" || !this.#bus;
    if (stale !== this.#stale) this.#tell();
    this.#stale = stale;
  }

  #changed(): void {
    this.#snapshot = undefined;
    this.#tell();
  }

  /** Once for all that changes in one turn. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      this.#changes.emit("change", undefined);
    });
  }
}
