export interface QueueOptions {
    max: number;
    /**
     * With `drop-oldest` the oldest gives way, with `latest` those of the same Topic, if there are any; either is a
     * `gap`. `end` ends the Subscription with `slow_consumer`.
     */
    onFull: "drop-oldest" | "latest" | "end";
}
export declare class Queue<P extends {
    readonly topic: string;
}> implements AsyncIterable<P> {
    #private;
    readonly onFull: QueueOptions["onFull"];
    constructor({ max, onFull }?: QueueOptions);
    get size(): number;
    get full(): boolean;
    /** Says how many gave way. */
    push(item: P): number;
    /** What waits can still be read; then the loop ends, or throws that error. */
    end(error?: unknown): void;
    [Symbol.asyncIterator](): AsyncGenerator<P, void>;
}
