/** Why a Token is asked for. */
export interface TokenRequest {
    /** `expiring`: the present one ends soon. `rejected`: the gateway did not take it. */
    readonly reason: "connect" | "expiring" | "rejected";
    /** Counts from 1; more than that if the call before failed. */
    readonly attempt: number;
    /** Aborts when the answer is not wanted any more. */
    readonly signal: AbortSignal;
}
/** Gives a Token, or throws: `Unauthorized` to stop the client, all else to be asked again. */
export type TokenProvider = (request: TokenRequest) => string | Promise<string>;
export declare class Tokens {
    #private;
    /** `expiring` is called when it is time for another one. */
    constructor(source: string | TokenProvider | undefined, expiring: () => void);
    /** Whether there is any hope for another one than the present. */
    get renewable(): boolean;
    /** The present one while it is good, else another; undefined for anonymous clients. */
    get(reason: TokenRequest["reason"]): Promise<string | undefined>;
    /** It was taken, and will end then: sets the time of its renewal. */
    accepted(end: Date | undefined): void;
    /** It could not be renewed: asks for another one after a while. */
    askAgain(): void;
    close(): void;
}
