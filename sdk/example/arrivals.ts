// What arrives below `demo` and is neither the demo's own nor that of an example, which use longer Topics: a
// visitor's Publications.

import type { Publication } from "tidegate";

const OWN = new Set(["demo.counter", "demo.cpu", "demo.memory", "demo.network", "demo.gateway"]);

export interface Arrival {
  readonly publication: Publication<unknown>;
  readonly at: number;
  readonly ms: number;
}

export const arrivals: { newest?: Arrival } = {};

export function hear(publication: Publication<unknown>): void {
  if (OWN.has(publication.topic) || publication.topic.split(".").length > 2 || publication.replayed) return;
  const now = Date.now();
  arrivals.newest = { publication, at: now, ms: now - publication.time.getTime() };
}
