import type { Answer, AskCommand } from "./ask.ts";
import type { WireFrom } from "./codec.ts";
import type { CursorStore } from "./cursor.ts";
import type { TidegateError } from "./error.ts";
import type { Listen } from "./events.ts";
import { Feed } from "./feed.ts";
import type { FeedOwner, Receiver } from "./feed.ts";
import type { LineOwner } from "./line.ts";
import type { LiveMap } from "./live.ts";
import type { Origin, Pattern } from "./pattern.ts";
import type { Publication } from "./publication.ts";
import type { Session } from "./session.ts";
import type { Subscriber, SubscribeOptions, Subscription } from "./subscription.ts";
import type { TokenProvider } from "./token.ts";
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
    hidden?: "keep" | {
        afterMs: number;
        then: "pause" | "disconnect";
    };
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
    bus: {
        readonly connected: boolean;
    };
    /** What nobody else is told: refused or failed attempts to connect, Tokens that cannot be had. */
    error: TidegateError;
    /** How long a ping took. */
    latency: {
        readonly ms: number;
    };
};
/** `T` maps Topics to the types of what is published there; template-literal keys work. */
export interface Client<T extends object = Record<string, unknown>> extends AsyncDisposable {
    readonly state: ClientState;
    /** While there is one. */
    readonly connection?: Connection | undefined;
    /** While it is waited for. */
    readonly retryAt?: Date | undefined;
    /** Optional: the first Subscription and the first publish connect, too. */
    connect(options?: {
        signal?: AbortSignal;
    }): Promise<Connection>;
    /** Ends it and all of its Subscriptions, for good. */
    close(): Promise<void>;
    topic<K extends keyof T & string>(name: K): Topic<T[K]>;
    pattern<M = unknown>(name: string): Pattern<M>;
    on: Listen<ClientEvents>;
}
export declare function createClient<T extends object = Record<string, unknown>>(options?: ClientOptions): Client<T>;
export declare class Core<T extends object = Record<string, unknown>> implements Client<T>, Subscriber, Origin, FeedOwner, LineOwner {
    #private;
    readonly on: Listen<ClientEvents>;
    constructor(options: ClientOptions);
    get state(): ClientState;
    get connection(): Connection | undefined;
    get retryAt(): Date | undefined;
    connect({ signal }?: {
        signal?: AbortSignal;
    }): Promise<Connection>;
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
    topic<K extends keyof T & string>(name: K): Topic<T[K]>;
    pattern<M = unknown>(name: string): Pattern<M>;
    subscribe<M>(pattern: string, from: WireFrom | undefined, receive: ((publication: Publication<M>) => void) | undefined, options: SubscribeOptions<M, unknown>): Subscription<M>;
    live<M>(pattern: string, signal: AbortSignal | undefined): LiveMap<M>;
    enter(pattern: string, receiver: Receiver): void;
    leave(pattern: string, receiver: Receiver): void;
    ask(command: AskCommand, signal?: AbortSignal): Promise<Answer>;
    /** Asks whether the gateway is there, and ends the connection if it is not; the answer is a `latency`. */
    awake(): void;
    changed(): void;
    forget(feed: Feed, but?: Session): void;
    feeds(): Feed[];
    /** Stores how far Subscriptions have come. */
    remember(): void;
    closed(error: TidegateError | undefined): void;
}
