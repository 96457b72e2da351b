import type { Retry } from "./client.ts";
export declare class Backoff {
    #private;
    readonly retry: Retry;
    constructor(retry?: Partial<Retry>);
    /** Whether there have been as many failures in a row as may be. */
    get exhausted(): boolean;
    /** Counts a failure, and says how long to wait: anything between nothing and a bound that grows. */
    next(): number;
    reset(): void;
}
