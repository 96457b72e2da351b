// A Problem: why HTTP gave not what was asked for, in the words of an `error`.

import type { ErrorFrame } from "./codec.ts";

export type Problem = Omit<ErrorFrame, "type" | "id" | "topic">;

/** Throws if it was not a gateway that answered. */
export async function problem(response: Response): Promise<Problem> {
  // The one bare status that tells something: the address had too many Patterns in it.
  if (response.status === 414) return { code: "too_many_subscriptions", message: "", retryable: false };
  const { detail: message, ...about } = await response.json();
  if (!about.code) throw new TypeError(message);
  return { ...about, message };
}

/** Of whom nothing more is heard. */
export function lost(ms?: number): Problem {
  return { code: "connection_lost", message: "", retryable: true, retry_after_ms: ms };
}

/** Whether a fresh Token would help, where the same one does not. */
export function wantsToken({ code }: Problem): boolean {
  return code === "unauthenticated" || code === "token_expired";
}
