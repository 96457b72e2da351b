// A Cursor: a place in the history of a Namespace, to go on from; and where it is kept over a reload.
/** Of a `gap`: the history is another one, or was written anew. */
export const EPOCH_CHANGED = "epoch_changed";
/** Whether `cursor` lies behind `other`. Nothing can be said of two histories: the newer word counts. */
export function isAfter(cursor, other = "") {
    return !sameHistory(cursor, other) || offset(cursor) > offset(other);
}
export function sameHistory(cursor, other) {
    return cursor.slice(0, EPOCH) === other.slice(0, EPOCH);
}
/** How far somebody has come. */
export class Place {
    /** To go on from. */
    cursor;
    /** Whether it lies in a history that is no more: whatever comes next is the place. */
    outdated = false;
    /** Whether `cursor` lies behind it; then it is there now. */
    advance(cursor) {
        if (!this.outdated && !isAfter(cursor, this.cursor))
            return false;
        this.cursor = cursor;
        this.outdated = false;
        return true;
    }
    /** Whether something else stands there by now: the history was written anew. It takes two checks to tell. */
    denies(cursor) {
        const [place = "-"] = cursor.match(/.+-.+-/) ?? [];
        return this.cursor !== cursor && !this.outdated && !!this.cursor?.startsWith(place);
    }
}
/** Of the epoch, in front of the offset. */
const EPOCH = 7;
function offset(cursor) {
    return Number.parseInt(cursor.slice(EPOCH), 16);
}
/** In the tab's session storage: after a reload, a Subscription without a `from` goes on where it was. */
export function sessionCursors(prefix = "tidegate:") {
    return {
        get: (pattern) => (sessionStorage.getItem(prefix + pattern) ?? undefined),
        set: (pattern, cursor) => {
            try {
                sessionStorage.setItem(prefix + pattern, cursor);
            }
            catch {
                // Full, or forbidden by the user: then nothing survives a reload.
            }
        },
    };
}
