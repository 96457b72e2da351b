import type { SubscribedFrame, WireFrom } from "./codec.ts";
import type { TidegateError } from "./error.ts";
import type { Publication } from "./publication.ts";
import type { Session } from "./session.ts";
import type { Gap } from "./subscription.ts";
/** One Subscription of the application, as its Feed sees it. */
export interface Receiver {
    /** Where it begins, or goes on. */
    from: WireFrom;
    /** It drops what does not lie behind its place. */
    take(publication: Publication): void;
    /** Its place is there now, if it was not further. */
    position(cursor: string): void;
    gap(gap: Gap): void;
    /** Nothing is between it and the publishers. */
    live(): void;
    /** What was missed is on its way, or will be. */
    lost(): void;
    error(error: TidegateError): void;
    end(error?: TidegateError): void;
}
/** The client, as its Feeds see it. */
export interface FeedOwner {
    /** What is to be subscribed to has changed. */
    changed(): void;
    /** Ends this Feed's Subscription on every Link but that of `but`, so that it begins anew. */
    forget(feed: Feed, but?: Session): void;
}
export declare class Feed {
    #private;
    readonly pattern: string;
    readonly matches: RegExp;
    /** False while it waits to be asked for again. */
    wanted: boolean;
    constructor(pattern: string, from: WireFrom, owner: FeedOwner);
    get isLive(): boolean;
    get empty(): boolean;
    add(receiver: Receiver): void;
    remove(receiver: Receiver): void;
    /** Where it begins on the next Link. */
    start(): WireFrom;
    subscribed({ recovered, reason, cursor, replayed, more }: SubscribedFrame): void;
    take(publication: Publication, session: Session): void;
    position(cursor: string, session: Session): void;
    gap(gap: Gap): void;
    live(session: Session): void;
    lost(session: Session): void;
    /** Not now, or not at all. */
    refused(error: TidegateError): void;
    end(error?: TidegateError): void;
}
