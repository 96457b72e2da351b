import type { Ask } from "./ask.ts";
import type { Close, Verdict } from "./close.ts";
import type { ConnectedFrame, Frame } from "./codec.ts";
import { TidegateError } from "./error.ts";
import type { Feed } from "./feed.ts";
import type { LinkListener, Transport } from "./transport.ts";
/** The client, as its Sessions see it. */
export interface SessionListener {
    connected(session: Session, frame: ConnectedFrame): void;
    /** What it subscribed to is live, all of it. */
    settled(session: Session): void;
    goingAway(session: Session, ms: number): void;
    bus(session: Session, connected: boolean): void;
    latency(ms: number): void;
    renewed(session: Session, expiresAt: string | undefined): void;
    notRenewed(error: TidegateError): void;
    /** An error that belongs to nothing else. */
    refused(error: TidegateError): void;
    /** Of its own accord. */
    ended(session: Session, end: Verdict): void;
}
export declare class Session implements LinkListener {
    #private;
    readonly transport: string;
    /** Dials, and says all that there is to say at once. */
    constructor(transport: Transport, url: URL, token: string | undefined, feeds: Iterable<Feed>, listener: SessionListener);
    /** Makes what is subscribed to on this Link equal to `feeds`. */
    sync(feeds: Iterable<Feed>): void;
    /** Ends a Feed's Subscription on this Link. */
    forget(feed: Feed): void;
    ask(ask: Ask): void;
    renew(token: string): void;
    ping(): void;
    /** Asks whether anybody is there, and ends it if nobody answers. */
    probe(): void;
    /** From this side, without a word to the listener. */
    close(): void;
    frame(frame: Frame): void;
    ended(close: Close): void;
}
