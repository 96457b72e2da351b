// What goes wrong, in one class: the code says what it is, and whether the same once more can help.

import type { ErrorFrame } from "./codec.ts";

/**
 * A refusal or a failure.
 *
 * `code` is the gateway's word (`forbidden`, `too_big`, `rate_limited` …), or one of the client's own:
 * `connection_lost` (nothing was sent), `closed` (this client has ended), `invalid_data` (a `validate` threw; its
 * error is the `cause`) and `not_supported` (nothing here can dial).
 */
export class TidegateError extends Error {
  override readonly name = "TidegateError";
  declare readonly code: string;
  /** Whether the same once more can help. */
  declare readonly retryable: boolean;
  /** How long to wait before it. */
  declare readonly retryAfterMs?: number | undefined;
  /** Of the HTTP answer, if it was one. */
  declare readonly status?: number | undefined;
  /** To find it in the gateway's traces. */
  declare readonly traceId?: string | undefined;

  constructor(code: string, message: string, about: About = {}) {
    super(message, about);
    Object.assign(this, { code, retryable: false }, about);
  }
}

type About = Partial<Pick<TidegateError, "retryable" | "retryAfterMs" | "status" | "traceId" | "cause">>;

/** From the Reply `error`. */
export function refusal({ code, message, retryable, retry_after_ms: retryAfterMs }: ErrorFrame): TidegateError {
  return new TidegateError(code, message, { retryable, retryAfterMs });
}

/** Thrown by a `TokenProvider`: this user may not connect. The client stops, with state `closed`. */
export class Unauthorized extends Error {
  override readonly name = "Unauthorized";
}
