import type { Subscription } from "./subscription.ts";
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
/** The one map of a Pattern, for all who asked for it. */
export declare class Table<M> {
    #private;
    /** `subscribe` begins with the newest values. */
    constructor(subscribe: () => Subscription<M>);
    /** Whether it never changes again: nobody uses it, or it was refused. */
    get ended(): boolean;
    /** Whether the node reaches the others. */
    bus(connected: boolean): void;
    /** For one more. It ends with the last. */
    use(): LiveMap<M>;
}
