/** The end of a Link as it was told: a status of WebSocket, and the text beside it. */
export interface Close {
    readonly status: number;
    readonly reason: string;
}
/** What a Close means. */
export interface Verdict {
    /** The node's word for it, or `connection_lost`. */
    readonly code: string;
    /** Whether connecting again can help. */
    readonly retry: boolean;
    /** Come back after so many milliseconds, not earlier. Absent: back off. */
    readonly ms: number | undefined;
    /** Whether a fresh Token would help, where the same one does not. */
    readonly freshToken: boolean;
}
/** An end without a goodbye. */
export declare const LOST: Close;
/** The reason decides, if it can be read; else the status. */
export declare function verdict({ status, reason }: Close): Verdict;
