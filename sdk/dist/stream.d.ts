import type { Frame, WireFrom } from "./codec.ts";
import type { Problem } from "./problem.ts";
/** A Pattern that is subscribed to. */
export interface Wanted {
    /** The `id` of its `subscribe`. */
    readonly id: number;
    readonly pattern: string;
    readonly matches: RegExp;
    readonly namespace: string;
    /** Where it begins, or goes on. */
    from: WireFrom;
    /** Why not all behind `from` can be had. */
    reason?: string;
    /** Whether it had its `subscribed`; and all of its parts. */
    answered?: boolean;
    live?: boolean;
    /** Whether it cannot begin with those that go on by a Cursor. */
    alone?: boolean;
    /** The Stream that brings it, once that had all that it missed. */
    by?: Stream;
}
export interface StreamListener {
    /** A `ping` says that nothing else waits to be sent. */
    heard(stream: Stream, frame: Frame): void;
    /** Comes once, and nothing after it. */
    ended(stream: Stream, why: Problem): void;
}
export declare class Stream {
    #private;
    readonly wanted: ReadonlyMap<string, Wanted>;
    /** Those that it has not got all of what they missed. */
    readonly behind: Set<Wanted>;
    /** How far each kept Namespace has come. */
    readonly places: Map<string, string>;
    /** The Namespaces with which another Stream goes on. */
    readonly passed: Set<string>;
    /** Whether it brings what its Patterns missed, and then waits for another to take them in. */
    readonly aside: boolean;
    constructor(address: string, headers: Record<string, string>, wanted: readonly Wanted[], places: Map<string, string>, aside: boolean, listener: StreamListener);
    close(): void;
}
