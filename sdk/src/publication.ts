// A Publication: one immutable message on one Topic, as the application sees it.

import type { MessageFrame, Payload } from "./codec.ts";
import type { Cursor } from "./cursor.ts";

/**
 * One message on one Topic. A tombstone (`deleted: true`) has no `data`: its Topic has no value any more.
 * Bytes that are no text come as a `Uint8Array`.
 */
export type Publication<M = unknown> = {
  readonly topic: string;
  /** Names it: what `publish` answered with. */
  readonly id: string;
  /** Its place in history, where that is kept. */
  readonly cursor?: Cursor | undefined;
  /** When it was stored; where nothing is kept, when a node took it. */
  readonly time: Date;
  /** The `sub` of the Token that it was published with; none for backends. */
  readonly user?: string | undefined;
  /** Whether it comes from history, not live. */
  readonly replayed: boolean;
} & ({ readonly deleted?: never; readonly data: M } | { readonly deleted: true; readonly data?: never });

/** `part`: whether it came as a part of a Replay. */
export function publication(frame: MessageFrame, part: boolean): Publication {
  const { topic, id, time, cursor, user, replayed = part } = frame;
  const what = { topic, id, cursor: cursor as Cursor | undefined, time: new Date(time), user, replayed };
  if ("deleted" in frame) return { ...what, deleted: true };
  return { ...what, data: "data_base64" in frame ? bytes(frame.data_base64) : frame.data };
}

/** What is sent for `data`: bytes as they are, all else as JSON. */
export function payload(data: unknown): Payload {
  if (data instanceof Uint8Array) return { data_base64: base64(data) };
  if (data === undefined) throw new TypeError("undefined is no data");
  return { data };
}

function bytes(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

function base64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
