// How a Link ended, and what follows from it: whether to come back, when, and with which Token.

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
  readonly ms?: number;
  /** Whether a fresh Token would help, where the same one does not. */
  readonly freshToken: boolean;
}

/** An end without a goodbye. */
export const LOST: Close = { status: 1006, reason: "" };

/** Statuses that mean "stay away" where nobody said more. All others mean "back off". */
const FINAL = new Set([1000, 1002, 1003, 1007, 1009, 4400, 4403, 4413]);

/** The reason decides, if it can be read; else the status. */
export function verdict({ status, reason }: Close): Verdict {
  const told = read(reason);
  if (told) {
    const code = typeof told.code === "string" ? told.code : "connection_lost";
    const freshToken = code === "unauthenticated" || code === "token_expired";
    const ms = typeof told.ms === "number" && told.ms >= 0 ? { ms: told.ms } : {};
    return { code, retry: told.retry, freshToken, ...ms };
  }
  const freshToken = status === 4401;
  const code = freshToken ? "unauthenticated" : "connection_lost";
  return { code, retry: !freshToken && !FINAL.has(status), freshToken };
}

function read(reason: string): { code?: unknown; retry: boolean; ms?: unknown } | undefined {
  try {
    const told: unknown = JSON.parse(reason);
    const readable = typeof told === "object" && told !== null && "retry" in told && typeof told.retry === "boolean";
    return readable ? (told as { retry: boolean }) : undefined;
  } catch {
    return undefined;
  }
}
