// How long to wait where nobody says so: at random, so that those who lost a node together come back apart.
const DEFAULT = { minMs: 500, maxMs: 30_000, factor: 2, stableAfterMs: 5_000, maxAttempts: Infinity };
export class Backoff {
    retry;
    #failures = 0;
    constructor(retry = {}) {
        this.retry = { ...DEFAULT, ...retry };
    }
    /** Whether there have been as many failures in a row as may be. */
    get exhausted() {
        return this.#failures >= this.retry.maxAttempts;
    }
    /** Counts a failure, and says how long to wait: anything between nothing and a bound that grows. */
    next() {
        const { minMs, maxMs, factor } = this.retry;
        return Math.random() * Math.min(maxMs, minMs * factor ** this.#failures++);
    }
    reset() {
        this.#failures = 0;
    }
}
