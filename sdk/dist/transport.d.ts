import type { Command, Frame } from "./codec.ts";
import type { Close } from "./close.ts";
/** One way to a gateway. Stateless: each call of `open` is a new Link. */
export interface Transport {
    /** For people: it shows in `client.connection.transport`. */
    readonly name: string;
    /** Whether it can work here at all. A Transport that cannot is passed over without a word. */
    readonly usable: boolean;
    /**
     * Begins a Link, and returns at once. It must neither throw nor call `listener` before it has returned: what
     * cannot begin is a Link that ends.
     *
     * @param url the gateway's root, `http:` or `https:`, its path without a slash at the end
     */
    open(url: URL, listener: LinkListener): Link;
}
/** One conversation with a gateway, as long as it lasts. */
export interface Link {
    /**
     * Sends a Command, or holds it until it can be sent; Commands arrive in order. The first is `connect`, and
     * carries the Token. A Link that answers by itself (no node ever sees its Commands) owes for
     *
     * - `connect`: a `connected` with that `id`, or its end by a Close that says why not
     * - `subscribe`: for each Pattern a `subscribed` (then its `message`s, parts headed by `replay`) or an
     *   `error` with that `topic`, all with that `id`
     * - `unsubscribe`, `publish`, `history`, `token`, `ping`: the Reply, or an `error`
     *
     * and a Frame at least every `heartbeat_ms` of its `connected`; a `ping` will do, and its `pong` may be
     * dropped. How many Commands can wait for Replies is bounded by the client. After the end it does nothing.
     */
    send(command: Command): void;
    /** Ends it from this side. The listener hears nothing any more. */
    close(): void;
}
/** Whoever opened a Link. */
export interface LinkListener {
    /** What the gateway says, in order. Frames of an unknown `type` may pass. */
    frame(frame: Frame): void;
    /** The Link has ended, and not by `close()`. Comes at most once, and nothing comes after it. */
    ended(close: Close): void;
}
/** The default: one WebSocket. */
export declare function webSocket(): Transport;
