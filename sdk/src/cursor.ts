// A Cursor: a place in the history of a Namespace, to go on from; and where it is kept over a reload.

/** "Everything up to here has come." Opaque: keep it, and send it back as it came. */
export type Cursor = string & { readonly __cursor: unique symbol };

/** Whether `cursor` lies behind `other`. Nothing can be said of two histories: the newer word counts. */
export function isAfter(cursor: string, other: string | undefined): boolean {
  if (other === undefined) return true;
  const [epoch, offset] = cursor.split("-");
  const [otherEpoch, otherOffset] = other.split("-");
  return epoch !== otherEpoch || Number.parseInt(offset ?? "", 16) > Number.parseInt(otherOffset ?? "", 16);
}

export function sameHistory(cursor: string, other: string): boolean {
  return cursor.split("-")[0] === other.split("-")[0];
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
