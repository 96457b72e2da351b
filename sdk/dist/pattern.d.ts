import type { Answer, AskCommand } from "./ask.ts";
import type { WireFrom } from "./codec.ts";
import type { Cursor } from "./cursor.ts";
import type { LiveMap } from "./live.ts";
import type { Publication } from "./publication.ts";
import type { SubscribeOptions, Subscription } from "./subscription.ts";
/**
 * Where a Subscription begins: with what is published from now on; with the newest value of each Topic; behind a
 * Cursor; or with what was stored since then.
 */
export type From = "live" | "last" | Cursor | {
    readonly since: Date;
};
/** What can be subscribed to: a Topic in which segments may be `*` (one segment) or a last `>` (one or more). */
export interface Pattern<M = unknown, F = From> {
    /** As nodes write it: `**` becomes `>`. */
    readonly name: string;
    /** To be read by `for await`; leaving the loop unsubscribes. */
    subscribe(options?: SubscribeOptions<M, F>): Subscription<M>;
    subscribe(receive: (publication: Publication<M>) => void, options?: SubscribeOptions<M, F>): Subscription<M>;
    /** The newest value of each Topic, kept up to date. */
    live(options?: {
        signal?: AbortSignal;
    }): LiveMap<M>;
}
/** The spelling to compare in: a last `**` is `>`. */
export declare function canonical(pattern: string): string;
/** Whether it can be published to. For names that come from users: a gateway refuses all others. */
export declare function isTopic(text: string): boolean;
/** Whether a client may subscribe to it: its Namespace must not be a wildcard. */
export declare function isPattern(text: string): boolean;
/** Of a Pattern in the spelling with `>`: matches its Topics, and no other. */
export declare function matcher(pattern: string): RegExp;
/** The client, as its Patterns and Topics see it. */
export interface Origin {
    ask(command: AskCommand, signal?: AbortSignal): Promise<Answer>;
    subscribe<M>(pattern: string, from: WireFrom | undefined, receive: ((publication: Publication<M>) => void) | undefined, options: SubscribeOptions<M, unknown>): Subscription<M>;
    live<M>(pattern: string, signal: AbortSignal | undefined): LiveMap<M>;
}
export declare function patternOf<M, F extends From | {
    readonly last: number;
} = From>(client: Origin, text: string): Pattern<M, F>;
