// How a Link ended, and what follows from it: whether to come back, when, and with which Token.
/** An end without a goodbye. */
export const LOST = { status: 1006, reason: "" };
/** Statuses that mean "stay away" where nobody said more. All others mean "back off". */
const FINAL = [1000, 1002, 1003, 1007, 1009, 4400, 4401, 4403, 4413];
/** The reason decides, if it can be read; else the status. */
export function verdict({ status, reason }) {
    const told = read(reason);
    const code = told?.code ?? (status === 4401 ? "unauthenticated" : "connection_lost");
    const freshToken = code === "unauthenticated" || code === "token_expired";
    return { code, retry: told?.retry ?? !FINAL.includes(status), ms: told?.ms, freshToken };
}
function read(reason) {
    try {
        const told = JSON.parse(reason);
        return typeof told?.retry === "boolean" ? told : undefined;
    }
    catch {
        return undefined;
    }
}
