import type { MessageFrame, Payload } from "./codec.ts";
import type { Cursor } from "./cursor.ts";
/**
 * One message on one Topic. A tombstone (`deleted: true`) has no `data`: its Topic has no value any more.
 * Bytes that are no text come as a `Uint8Array`.
 */
export type Publication<M = unknown> = {
    readonly topic: string;
    /** Names it: what `publish` answered with. */
    readonly id: string;
    /** Its place in history, where that is kept. */
    readonly cursor?: Cursor | undefined;
    /** When it was stored; where nothing is kept, when a node took it. */
    readonly time: Date;
    /** The `sub` of the Token that it was published with; none for backends. */
    readonly user?: string | undefined;
    /** Whether it comes from history, not live. */
    readonly replayed: boolean;
} & ({
    readonly deleted?: never;
    readonly data: M;
} | {
    readonly deleted: true;
    readonly data?: never;
});
/** `part`: whether it came as a part of a Replay. */
export declare function publication(frame: MessageFrame, part: boolean): Publication;
/** What is sent for `data`: bytes as they are, all else as JSON. */
export declare function payload(data: unknown): Payload;
