/** "Everything up to here has come." Opaque: keep it, and send it back as it came. */
export type Cursor = string & {
    readonly __cursor: unique symbol;
};
/** Whether `cursor` lies behind `other`. Nothing can be said of two histories: the newer word counts. */
export declare function isAfter(cursor: string, other: string | undefined): boolean;
export declare function sameHistory(cursor: string, other: string): boolean;
/** Remembers, by Pattern, how far Subscriptions without a `from` have come. */
export interface CursorStore {
    get(pattern: string): Cursor | undefined;
    set(pattern: string, cursor: Cursor): void;
}
/** In the tab's session storage: after a reload, a Subscription without a `from` goes on where it was. */
export declare function sessionCursors(prefix?: string): CursorStore;
