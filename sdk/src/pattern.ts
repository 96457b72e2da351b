// Patterns: their grammar, what they match, and the object that an application holds for one.

import type { Answer, AskCommand } from "./ask.ts";
import type { WireFrom } from "./codec.ts";
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

/** Whether it can be published to. For names that come from users: a gateway refuses all others. */
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
        SEGMENT.test(segment) ||
        (at > 0 && (segment === "*" || (at === last && (segment === ">" || segment === "**")))),
    )
  );
}

function bounded(text: string, segments: readonly string[]): boolean {
  return text.length <= BYTES_MAX && segments.length <= SEGMENTS_MAX && !text.startsWith("_");
}

/** Of a Pattern in the spelling with `>`: matches its Topics, and no other. */
export function matcher(pattern: string): RegExp {
  const literal = pattern.replace(/[^\w*>]/g, "\\$&");
  return new RegExp(`^${literal.replace(/\*/g, "[^.]+").replace(/>$/, ".+")}$`);
}

/** The client, as its Patterns and Topics see it. */
export interface Origin {
  ask(command: AskCommand, signal?: AbortSignal): Promise<Answer>;
  subscribe<M>(
    pattern: string,
    from: WireFrom | undefined,
    receive: ((publication: Publication<M>) => void) | undefined,
    options: SubscribeOptions<M, unknown>,
  ): Subscription<M>;
  live<M>(pattern: string, signal: AbortSignal | undefined): LiveMap<M>;
}

export function patternOf<M, F extends From | { readonly last: number } = From>(
  client: Origin,
  text: string,
): Pattern<M, F> {
  const name = canonical(text);
  return {
    name,
    subscribe(
      first?: ((publication: Publication<M>) => void) | SubscribeOptions<M, F>,
      second?: SubscribeOptions<M, F>,
    ): Subscription<M> {
      const [receive, options = {}] = typeof first === "function" ? [first, second] : [undefined, first];
      return client.subscribe(name, options.from && onWire(options.from), receive, options);
    },
    live: (options) => client.live(name, options?.signal),
  };
}

function onWire(from: From | { readonly last: number }): WireFrom {
  if (typeof from === "object") return "since" in from ? { since: from.since.toISOString() } : from;
  return from === "live" || from === "last" ? (from as "live" | "last") : { cursor: from };
}
