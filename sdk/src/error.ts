// What goes wrong, in one class: the code says what it is, and whether the same once more can help.

import type { ErrorFrame } from "./codec.ts";

/**
 * A refusal or a failure.
 *
 * `code` is the gateway's word (`forbidden`, `too_big`, `rate_limited` …), or one of the client's own:
 * `connection_lost` (nothing was sent), `closed` (this client has ended) and `invalid_data` (a `validate`
 * threw; its error is the `cause`).
 */
export class TidegateError extends Error {
  override readonly name = "TidegateError";
  readonly code: string;
  /** Whether the same once more can help. */
  readonly retryable: boolean;
  /** How long to wait before it. */
  readonly retryAfterMs?: number;
  /** Of the HTTP answer, if it was one. */
  readonly status?: number;
  /** To find it in the gateway's traces. */
  readonly traceId?: string;

  constructor(
    code: string,
    message: string,
    about: { retryable?: boolean; retryAfterMs?: number | undefined; status?: number; traceId?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, "cause" in about ? { cause: about.cause } : undefined);
    this.code = code;
    this.retryable = about.retryable ?? false;
    if (about.retryAfterMs !== undefined) this.retryAfterMs = about.retryAfterMs;
    if (about.status !== undefined) this.status = about.status;
    if (about.traceId !== undefined) this.traceId = about.traceId;
  }

  /** From the Reply `error`. */
  static of(frame: ErrorFrame): TidegateError {
    return new TidegateError(frame.code, frame.message, { retryable: frame.retryable, retryAfterMs: frame.retry_after_ms });
  }
}

/** Thrown by a `TokenProvider`: this user may not connect. The client stops, with state `closed`. */
export class Unauthorized extends Error {
  override readonly name = "Unauthorized";
}
