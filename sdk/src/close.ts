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
  readonly ms: number | undefined;
  /** Whether a fresh Token would help, where the same one does not. */
  readonly freshToken: boolean;
}

/** An end without a goodbye. */
export const LOST: Close = { status: 1006, reason: "" };

/** Statuses that mean "stay away" where nobody said more. All others mean "back off". */
const FINAL = [1000, 1002, 1003, 1007, 1009, 4400, 4401, 4403, 4413];

/** The reason decides, if it can be read; else the status. */
export function verdict({ status, reason }: Close): Verdict {
  const told = read(reason);
  const code = told?.code ?? (status === 4401 ? "unauthenticated" : "connection_lost");
  const freshToken = code === "unauthenticated" || code === "token_expired";
  return { code, retry: told?.retry ?? !FINAL.includes(status), ms: told?.ms, freshToken };
}

function read(reason: string): Partial<Verdict> | undefined {
  try {
    const told = JSON.parse(reason) as Partial<Verdict> | null;
    return typeof told?.retry === "boolean" ? told : undefined;
  } catch {
    return undefined;
  }
}
