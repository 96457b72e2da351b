// The Token: where it comes from, and when it is time for another one.

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
