import type { Answer, AskCommand } from "./ask.ts";
import type { ClientEvents, ClientOptions, ClientState, Connection } from "./client.ts";
import type { Verdict } from "./close.ts";
import type { ConnectedFrame } from "./codec.ts";
import { TidegateError } from "./error.ts";
import type { Events } from "./events.ts";
import type { Feed } from "./feed.ts";
import type { PageListener } from "./page.ts";
import { Session } from "./session.ts";
import type { SessionListener } from "./session.ts";
/** Whose Line it is. */
export interface LineOwner {
    /** What is to be subscribed to. */
    feeds(): Iterable<Feed>;
    /** The page is hidden or left, and may never come back. */
    remember(): void;
    /** It has ended for good; by an error, if it was refused. */
    closed(refusal: TidegateError | undefined): void;
}
export declare class Line implements SessionListener, PageListener {
    #private;
    /** Why nothing can be asked of it any more. */
    why: TidegateError | undefined;
    connection: Connection | undefined;
    state: ClientState;
    constructor(options: ClientOptions, owner: LineOwner, events: Events<ClientEvents>);
    get retryAt(): Date | undefined;
    /** Somebody wants something. */
    wake(): void;
    /** What is to be subscribed to has changed. */
    sync(): void;
    /** Ends its Subscription, wherever else it is. */
    forget(feed: Feed, but?: Session): void;
    /** Waits for an answer, if need be for a connection first. */
    ask(command: AskCommand, signal?: AbortSignal): Promise<Answer>;
    /** For good. */
    end(refusal?: TidegateError): void;
    connected(session: Session, frame: ConnectedFrame): void;
    /** All is live here, so the one before may go. */
    settled(session: Session): void;
    goingAway(session: Session, ms: number): void;
    bus(session: Session, connected: boolean): void;
    latency(ms: number): void;
    renewed(session: Session, expiresAt: string | undefined): void;
    notRenewed(error: TidegateError): void;
    refused(error: TidegateError): void;
    ended(session: Session, end: Verdict): void;
    online(): void;
    /** Browsers guess: an open connection stays, and its answer to a ping says that they were wrong. */
    offline(): void;
    /** Visible or thawed. */
    awake(): void;
    hidden(): void;
    left(): void;
}
