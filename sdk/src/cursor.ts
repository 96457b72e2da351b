// A Cursor: a place in the history of a Namespace, to go on from; and where it is kept over a reload.

/** "Everything up to here has come." Opaque: keep it, and send it back as it came. */
export type Cursor = string & { readonly __cursor: unique symbol };

/** Of a `gap`: the history is another one, or was written anew. */
export const EPOCH_CHANGED = "epoch_changed";

/** Whether `cursor` lies behind `other`. Nothing can be said of two histories: the newer word counts. */
export function isAfter(cursor: string, other = ""): boolean {
  return !sameHistory(cursor, other) || offset(cursor) > offset(other);
}

export function sameHistory(cursor: string, other: string): boolean {
  return cursor.slice(0, EPOCH) === other.slice(0, EPOCH);
}

/** How far somebody has come. */
export class Place {
  /** To go on from. */
  cursor: Cursor | undefined;
  /** Whether it lies in a history that is no more: whatever comes next is the place. */
  outdated = false;

  /** Whether `cursor` lies behind it; then it is there now. */
  advance(cursor: string): boolean {
    if (!this.outdated && !isAfter(cursor, this.cursor)) return false;
    this.cursor = cursor as Cursor;
    this.outdated = false;
    return true;
  }

  /** Whether something else stands there by now: the history was written anew. It takes two checks to tell. */
  denies(cursor: string): boolean {
    const [place = "-"] = cursor.match(/.+-.+-/) ?? [];
    return this.cursor !== cursor && !this.outdated && !!this.cursor?.startsWith(place);
  }
}

/** Of the epoch, in front of the offset. */
const EPOCH = 7;

function offset(cursor: string): number {
  return Number.parseInt(cursor.slice(EPOCH), 16);
}

/** Remembers, by Pattern, how far Subscriptions without a `from` have come. */
export interface CursorStore {
  get(pattern: string): Cursor | undefined;
  set(pattern: string, cursor: Cursor): void;
}

/** In the tab's session storage: after a reload, a Subscription without a `from` goes on where it was. */
export function sessionCursors(prefix = "tidegate:"): CursorStore {
  return {
    get: (pattern) => (sessionStorage.getItem(prefix + pattern) ?? undefined) as Cursor | undefined,
    set: (pattern, cursor) => {
      try {
        sessionStorage.setItem(prefix + pattern, cursor);
      } catch {
        // Full, or forbidden by the user: then nothing survives a reload.
      }
    },
  };
}
