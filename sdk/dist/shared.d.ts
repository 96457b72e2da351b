import type { Transport } from "./transport.ts";
export interface SharedOptions {
    /**
     * The address of `tidegate.js`, of the same version as this. Browsers take workers from the page's own origin only:
     * with a gateway elsewhere, the application serves a copy.
     */
    worker: string | URL;
    /** Tabs of different names do not share. */
    name?: string;
}
/** A tab's first word. */
export interface Opening {
    readonly lock: string;
    readonly url: string;
}
/**
 * One WebSocket for all tabs whose Tokens have the same `sub` and `permissions`. Where there is no such worker, it is
 * one for each tab, without a word.
 */
export declare function shared(options: SharedOptions): Transport;
