/** "Everything up to here has come." Opaque: keep it, and send it back as it came. */
export type Cursor = string & {
    readonly __cursor: unique symbol;
};
/** Of a `gap`: the history is another one, or was written anew. */
export declare const EPOCH_CHANGED = "epoch_changed";
/** Whether `cursor` lies behind `other`. Nothing can be said of two histories: the newer word counts. */
export declare function isAfter(cursor: string, other?: string): boolean;
export declare function sameHistory(cursor: string, other: string): boolean;
/** How far somebody has come. */
export declare class Place {
    /** To go on from. */
    cursor: Cursor | undefined;
    /** Whether it lies in a history that is no more: whatever comes next is the place. */
    outdated: boolean;
    /** Whether `cursor` lies behind it; then it is there now. */
    advance(cursor: string): boolean;
    /** Whether something else stands there by now: the history was written anew. It takes two checks to tell. */
    denies(cursor: string): boolean;
}
/** Remembers, by Pattern, how far Subscriptions without a `from` have come. */
export interface CursorStore {
    get(pattern: string): Cursor | undefined;
    set(pattern: string, cursor: Cursor): void;
}
/** In the tab's session storage: after a reload, a Subscription without a `from` goes on where it was. */
export declare function sessionCursors(prefix?: string): CursorStore;
