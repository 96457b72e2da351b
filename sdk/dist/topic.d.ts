import type { Cursor } from "./cursor.ts";
import type { From, Origin, Pattern } from "./pattern.ts";
import type { Publication } from "./publication.ts";
export interface PublishOptions {
    /**
     * Makes repeating safe: where history is kept, the same key is stored once within two minutes. Only a publish with
     * a key is sent again if the connection is lost before its answer, and only with a Token: the keys of anonymous
     * clients count on one connection.
     */
    key?: string;
    /** Gives up waiting; what was sent may still be published. */
    signal?: AbortSignal;
}
/** A publish that is done: stored, or handed to every subscriber that there was. */
export interface Published {
    /** The `id` of the Publication, as its receivers see it. */
    readonly id: string;
    readonly cursor?: Cursor | undefined;
    /** Whether it was there already, under the same key. */
    readonly duplicate: boolean;
}
/** A page of history, oldest first. */
export interface Page<M> {
    readonly items: Publication<M>[];
    /** `from` of the next page, if there is more. */
    readonly next?: Cursor | undefined;
}
/** One Topic of the application, with the type of what is published there. */
export interface Topic<M = unknown> extends Pattern<M, From | {
    readonly last: number;
}> {
    /**
     * Resolves when it is done; rejects with a `TidegateError`. Without a connection it waits for one, half a minute
     * at most. `outcome_unknown` means that it may have been published.
     */
    publish(data: M, options?: PublishOptions): Promise<Published>;
    /** Publishes a tombstone: the Topic has no value any more. */
    delete(options?: PublishOptions): Promise<Published>;
    /** A page of what is kept, from the oldest on or behind a Cursor. */
    history(options?: {
        from?: Cursor;
        limit?: number;
        signal?: AbortSignal;
    }): Promise<Page<M>>;
}
export declare function topicOf<M>(client: Origin, name: string): Topic<M>;
