import type { WireFrom } from "./codec.ts";
import type { Cursor } from "./cursor.ts";
import { TidegateError } from "./error.ts";
import type { Listen } from "./events.ts";
import type { Receiver } from "./feed.ts";
import type { From } from "./pattern.ts";
import type { Publication } from "./publication.ts";
import type { QueueOptions } from "./queue.ts";
/**
 * Why something is missing. Of the gateway: `history_trimmed` (no longer kept, or never was), `epoch_changed`
 * (the history is another one), `replay_limit` (too far behind), `bus_interrupted` (the way from the publishers
 * was broken), `slow_consumer` and `conflated`; of this client: the last two for its own queue, and
 * `connection_lost` where nothing is kept. There may be others one day.
 */
export type GapReason = "history_trimmed" | "epoch_changed" | "replay_limit" | "bus_interrupted" | "slow_consumer" | "conflated" | "connection_lost" | (string & {});
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
export declare class FeedSubscription<M> implements Subscription<M>, Receiver {
    #private;
    readonly pattern: string;
    from: WireFrom;
    state: SubscriptionState;
    constructor(client: Subscriber, pattern: string, from: WireFrom, receive: ((publication: Publication<M>) => void) | undefined, options: SubscribeOptions<M, unknown>);
    get ready(): Promise<Ready>;
    get cursor(): Cursor | undefined;
    readonly on: Listen<SubscriptionEvents<M>>;
    pause(): void;
    resume(): void;
    unsubscribe(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
    [Symbol.asyncIterator](): AsyncGenerator<Publication<M>, void>;
    take(publication: Publication): void;
    position(cursor: string): void;
    gap(gap: Gap): void;
    live(): void;
    lost(): void;
    error(error: TidegateError): void;
    end(error?: TidegateError): void;
}
