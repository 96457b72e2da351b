// What goes wrong, in one class: the code says what it is, and whether the same once more can help.
/**
 * A refusal or a failure.
 *
 * `code` is the gateway's word (`forbidden`, `too_big`, `rate_limited` …), or one of the client's own:
 * `connection_lost` (nothing was sent), `closed` (this client has ended), `invalid_data` (a `validate` threw; its
 * error is the `cause`) and `not_supported` (nothing here can dial).
 */
export class TidegateError extends Error {
    name = "TidegateError";
    constructor(code, message, about = {}) {
        super(message, about);
        Object.assign(this, { code, retryable: false }, about);
    }
}
/** From the Reply `error`. */
export function refusal({ code, message, retryable, retry_after_ms: retryAfterMs }) {
    return new TidegateError(code, message, { retryable, retryAfterMs });
}
/** Thrown by a `TokenProvider`: this user may not connect. The client stops, with state `closed`. */
export class Unauthorized extends Error {
    name = "Unauthorized";
}
