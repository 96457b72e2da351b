// All that the page knows, and where it comes from: Subscriptions of the SDK, and its state.

import type { Subscription } from "tidegate";
import { client, type Demo } from "./gateway.ts";
import { Counter } from "./counter.ts";
import { note } from "./journal.ts";
import { Latency } from "./latency.ts";
import { METERS, type Meter, type Reading } from "./meters.ts";
import { Series } from "./series.ts";
import { span } from "./words.ts";

/** What a chart begins with: its 60 seconds. */
const LAST = 100;

/** A Meter, and what it has shown. */
export interface Gauge {
  readonly meter: Meter;
  readonly series: Series;
  reading?: Reading;
}

/** A rehearsed drain: from the click until this page is on another Connection. */
export interface Move {
  readonly from: string;
  readonly began: number;
  readonly lostBefore: number;
  readonly newest: number;
  moved?: { ms: number; lost: number };
  /** Whether the state was ever another than `connected` meanwhile. */
  noticed: boolean;
}

export const counter = new Counter();
export const latency = new Latency();
export const gauges: readonly Gauge[] = METERS.map((meter) => ({ meter, series: new Series() }));
export let move: Move | undefined;

export function beginMove(): void {
  const from = client.connection?.id;
  if (from !== undefined) move = { from, began: Date.now(), lostBefore: counter.lost, newest: counter.newest ?? 0, noticed: false };
}

/** Looks whether the page has moved; called with each number of the counter. */
function watchMove(): void {
  if (!move || move.moved) return;
  if (client.state !== "connected") move.noticed = true;
  const to = client.connection?.id;
  if (to === undefined || to === move.from) return;
  const took = Date.now() - move.began;
  move.moved = { ms: took, lost: counter.lost - move.lostBefore };
  note(`moved to ${to} after ${span(took)}, ${move.noticed ? "after a break" : "without a break"}`);
}

function subscribe<K extends keyof Demo & string>(topic: K, take: (data: Demo[K], at: number, replayed: boolean) => void): Subscription<Demo[K]> {
  const subscription = client.topic(topic).subscribe((publication) => {
    const now = Date.now();
    if (!publication.replayed) latency.take(publication.time, now);
    if (publication.deleted || publication.data === null || typeof publication.data !== "object") return;
    take(publication.data, publication.time.getTime(), publication.replayed);
  }, { from: { last: LAST } });
  subscription.on("gap", ({ reason, missed }) => note(`gap in ${topic}: ${reason}${missed ? `, ${missed} missed` : ""}`));
  subscription.on("error", ({ code, message }) => note(`${topic}: ${code}, ${message}`));
  return subscription;
}

export function start(): void {
  let was = client.state;
  client.on("state", () => {
    const { state, connection } = client;
    if (state === was) return;
    if (was === "connected") {
      counter.left(Date.now());
      if (move && !move.moved) move.noticed = true;
      note(`the connection is gone: ${state}`);
    }
    if (state === "connected") note(`connected to ${connection?.node} as ${connection?.id}`);
    was = state;
  });
  client.on("bus", ({ connected }) => note(connected ? "the node has its bus again" : "the node lost its bus"));
  client.on("error", ({ code, message }) => note(`${code}: ${message}`));

  subscribe("demo.counter", (data, at, replayed) => {
    watchMove();
    const over = counter.take(data, at, replayed, Date.now());
    if (over) note(`back after ${span(over.to! - over.from)}: ${over.unknown ?? `missed ${over.replayed + over.lost}, replayed ${over.replayed}, lost ${over.lost}`}`);
  }).on("gap", ({ reason }) => counter.broke(reason));
  for (const topic of new Set(METERS.map(({ topic }) => topic))) {
    subscribe(topic, (data, at) => {
      for (const gauge of gauges) {
        const reading = gauge.meter.topic === topic ? gauge.meter.read(data) : undefined;
        if (!reading) continue;
        gauge.reading = reading;
        gauge.series.take(reading.values, at);
      }
    });
  }
}
