import type { ErrorFrame } from "./codec.ts";
/**
 * A refusal or a failure.
 *
 * `code` is the gateway's word (`forbidden`, `too_big`, `rate_limited` …), or one of the client's own:
 * `connection_lost` (nothing was sent), `closed` (this client has ended), `invalid_data` (a `validate` threw; its
 * error is the `cause`) and `not_supported` (nothing here can dial).
 */
export declare class TidegateError extends Error {
    readonly name = "TidegateError";
    readonly code: string;
    /** Whether the same once more can help. */
    readonly retryable: boolean;
    /** How long to wait before it. */
    readonly retryAfterMs?: number | undefined;
    /** Of the HTTP answer, if it was one. */
    readonly status?: number | undefined;
    /** To find it in the gateway's traces. */
    readonly traceId?: string | undefined;
    constructor(code: string, message: string, about?: About);
}
type About = Partial<Pick<TidegateError, "retryable" | "retryAfterMs" | "status" | "traceId" | "cause">>;
/** From the Reply `error`. */
export declare function refusal({ code, message, retryable, retry_after_ms: retryAfterMs }: ErrorFrame): TidegateError;
/** Thrown by a `TokenProvider`: this user may not connect. The client stops, with state `closed`. */
export declare class Unauthorized extends Error {
    readonly name = "Unauthorized";
}
export {};
