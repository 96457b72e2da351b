/** Who this is, as nodes log it. A test holds it equal to `package.json`. */
export declare const CLIENT = "tidegate-js/0.1.0";
/** The subprotocol of the WebSocket. */
export declare const SUBPROTOCOL = "tidegate.v1.json";
/** Patterns in one `subscribe`; a node refuses more. */
export declare const TOPICS_PER_SUBSCRIBE = 128;
/** Where a wire Subscription begins. */
export type WireFrom = "live" | "last" | {
    cursor: string;
} | {
    last: number;
} | {
    since: string;
};
/** What a Publication carries: exactly one of the three. */
export type Payload = {
    data: unknown;
} | {
    data_base64: string;
} | {
    deleted: true;
};
/** What a client asks. Each `id` is the client's own; the Replies to a Command carry it back. */
export type Command = {
    type: "connect";
    id: number;
    token?: string | undefined;
    client: string;
    heartbeat: "message";
} | {
    type: "subscribe";
    id: number;
    topics: readonly {
        topic: string;
        from: WireFrom;
    }[];
} | {
    type: "unsubscribe";
    id: number;
    topic: string;
} | ({
    type: "publish";
    id: number;
    topic: string;
    key?: string | undefined;
} & Payload) | {
    type: "history";
    id: number;
    topic: string;
    from?: WireFrom | undefined;
    limit?: number | undefined;
} | {
    type: "token";
    id: number;
    token: string;
} | {
    type: "ping";
    id: number;
} | {
    type: "pong";
};
/** What a node allows one Connection. */
export interface WireLimits {
    message_bytes: number;
    subscriptions: number;
    commands_per_second: number;
    outbox_bytes: number;
    snapshot_topics: number;
}
/** A Publication as it is pushed, and as pages of history hold it. */
export type MessageFrame = {
    type: "message";
    topic: string;
    id: string;
    cursor?: string;
    time: string;
    user?: string;
    /** Whether it comes from history. Only a Link says it that hands on what somebody else has received. */
    replayed?: boolean;
} & Payload;
export interface ConnectedFrame {
    type: "connected";
    id?: number;
    connection: string;
    node: string;
    expires_at?: string;
    heartbeat_ms: number;
    limits: WireLimits;
}
export interface SubscribedFrame {
    type: "subscribed";
    id?: number;
    topic: string;
    cursor?: string;
    recovered: boolean;
    reason?: string;
    replayed: number;
    more: boolean;
}
export interface PublishedFrame {
    type: "published";
    id: number;
    topic: string;
    message_id: string;
    cursor?: string;
    stored: boolean;
    duplicate: boolean;
}
export interface HistoryFrame {
    type: "history";
    id: number;
    topic: string;
    items: readonly MessageFrame[];
    next?: string;
}
export interface ErrorFrame {
    type: "error";
    id?: number;
    topic?: string;
    code: string;
    message: string;
    retryable: boolean;
    retry_after_ms?: number;
}
/** The answers to Commands. */
export type Reply = ConnectedFrame | SubscribedFrame | {
    type: "unsubscribed";
    id?: number;
    topic: string;
    code?: string;
} | PublishedFrame | HistoryFrame | {
    type: "token";
    id: number;
    expires_at?: string;
} | {
    type: "pong";
    id: number;
} | ErrorFrame;
/** What a node says unasked. (`unsubscribed` with a `code` is one of these, too.) */
export type Push = MessageFrame | {
    type: "replay";
    topic: string;
    replayed: number;
    more: boolean;
} | {
    type: "gap";
    topic: string;
    reason: string;
    missed?: number;
} | {
    type: "position";
    namespace: string;
    cursor: string;
} | {
    type: "bus";
    connected: boolean;
} | {
    type: "going_away";
    reconnect_in_ms: number;
} | {
    type: "ping";
};
export type Frame = Reply | Push;
/** Undefined for what is no Frame. A `type` that nobody here knows is the reader's to ignore. */
export declare function decode(text: unknown): Frame | undefined;
