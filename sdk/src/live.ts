// A LiveMap: the newest value of each Topic that a Pattern matches. A dashboard's table.

/**
 * Begins with the newest values, and stays up to date; after a loss it reads them anew and changes to them at once,
 * so it never shows half of them.
 */
export interface LiveMap<M> extends AsyncDisposable {
  get(topic: string): M | undefined;
  /** All of it; a new object only after a change. */
  snapshot(): ReadonlyMap<string, M>;
  /** Calls `changed` after each change of the values or of `stale`. Returns the way to stop that. */
  subscribe(changed: () => void): () => void;
  /** When all values that there are have come for the first time. */
  readonly synced: Promise<void>;
  /** Whether values may be old: the connection is lost, or that of the node to the others. */
  readonly stale: boolean;
}
