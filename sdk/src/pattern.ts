// Patterns: their grammar, what they match, and the object that an application holds for one.

import type { Cursor } from "./cursor.ts";
import type { LiveMap } from "./live.ts";
import type { Publication } from "./publication.ts";
import type { SubscribeOptions, Subscription } from "./subscription.ts";

/**
 * Where a Subscription begins: with what is published from now on; with the newest value of each Topic; behind a
 * Cursor; or with what was stored since then.
 */
export type From = "live" | "last" | Cursor | { readonly since: Date };

/** What can be subscribed to: a Topic in which segments may be `*` (one segment) or a last `>` (one or more). */
export interface Pattern<M = unknown, F = From> {
  /** As nodes write it: `**` becomes `>`. */
  readonly name: string;
  /** To be read by `for await`; leaving the loop unsubscribes. */
  subscribe(options?: SubscribeOptions<M, F>): Subscription<M>;
  subscribe(receive: (publication: Publication<M>) => void, options?: SubscribeOptions<M, F>): Subscription<M>;
  /** The newest value of each Topic, kept up to date. */
  live(options?: { signal?: AbortSignal }): LiveMap<M>;
}

/** Bytes of a Topic or Pattern, as written. */
const BYTES_MAX = 200;
const SEGMENTS_MAX = 16;
const SEGMENT = /^[A-Za-z0-9_\-=:@~,!]{1,64}$/;

/** The spelling to compare in: a last `**` is `>`. */
export function canonical(pattern: string): string {
  return pattern === "**" || pattern.endsWith(".**") ? `${pattern.slice(0, -2)}>` : pattern;
}

export function isTopic(text: string): boolean {
  const segments = text.split(".");
  return bounded(text, segments) && segments.every((segment) => SEGMENT.test(segment));
}

/** Whether a client may subscribe to it: its Namespace must not be a wildcard. */
export function isPattern(text: string): boolean {
  const segments = text.split(".");
  const last = segments.length - 1;
  return (
    bounded(text, segments) &&
    segments.every(
      (segment, at) =>
        SEGMENT.test(segment) || (at > 0 && (segment === "*" || (at === last && (segment === ">" || segment === "**")))),
    )
  );
}

function bounded(text: string, segments: readonly string[]): boolean {
  return text.length <= BYTES_MAX && segments.length <= SEGMENTS_MAX && !text.startsWith("_");
}

/** The first segment, whose rules count. */
export function namespaceOf(pattern: string): string {
  return pattern.split(".", 1)[0] ?? "";
}

/** Whether a Publication on this Topic is one for this Pattern, in the spelling with `>`. */
export function matches(pattern: string, topic: string): boolean {
  if (pattern === topic) return true;
  const wanted = pattern.split(".");
  const segments = topic.split(".");
  const open = wanted.at(-1) === ">";
  if (open ? segments.length < wanted.length : segments.length !== wanted.length) return false;
  return wanted.every((segment, at) => segment === "*" || segment === segments[at] || (open && at === wanted.length - 1));
}
