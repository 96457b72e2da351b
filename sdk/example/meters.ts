// What each chart shows: how a Publication becomes numbers, and the words beside them.

import type { Demo } from "./gateway.ts";
import { bytes, ceiling, count, finite, percent, perSecond } from "./words.ts";

const CORES_MAX = 256;
const CORES_APART = 6; // more lines than these nobody tells apart

/** A row of the table beside a chart; one with a `line` is that line's key, too. */
export interface Row {
  readonly label: string;
  readonly text: string;
  readonly line?: number;
}

export interface Reading {
  readonly values: number[];
  readonly rows: Row[];
  /** The upper end of the scale, where it is known. */
  readonly top?: number;
  /** How many of the lines count; the others are a shadow behind them. */
  readonly bold?: number;
}

export interface Meter {
  readonly topic: keyof Demo & string;
  readonly title: string;
  readonly unit: string;
  /** What the picture shows, for who does not see it. */
  readonly about: string;
  readonly fill?: boolean;
  format(value: number): string;
  /** The end of a scale that holds this value. */
  ceil(most: number): number;
  /** The part of its values that may stick out of the picture: whoever comes gets many at once. */
  readonly sticks?: number;
  /** Nothing for data that is not what it should be. */
  read(data: any): Reading | undefined;
}

const cpu: Meter = {
  topic: "demo.cpu",
  title: "CPU",
  unit: "load of each core",
  about: "CPU load of each core",
  format: (value) => `${value} %`,
  ceil: () => 100,
  read({ cores }) {
    if (!Array.isArray(cores) || cores.length === 0) return undefined;
    const values = cores.slice(0, CORES_MAX).map((core) => Math.min(100, finite(core) ?? 0));
    const each = values.map((value, n) => ({ label: `core ${n}`, text: percent(value) }));
    if (values.length <= CORES_APART) return { values, top: 100, rows: each.map((row, line) => ({ ...row, line })) };
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const most = Math.max(...values);
    const heads = [{ label: "mean", text: percent(mean), line: 0 }, { label: "busiest", text: percent(most), line: 1 }];
    return { values: [mean, most, ...values], top: 100, bold: 2, rows: [...heads, ...each] };
  },
};

const memory: Meter = {
  topic: "demo.memory",
  title: "Memory",
  unit: "in use",
  about: "Memory in use",
  fill: true,
  format: bytes,
  ceil: (most) => ceiling(Math.max(1024, most * 1.05), 1024),
  read(data) {
    const [used, total] = [finite(data.used), finite(data.total)];
    if (used === undefined || !total) return undefined;
    return { values: [used], top: total, rows: [{ label: "used", text: bytes(used), line: 0 }, { label: "of", text: bytes(total) }, { label: "share", text: percent((used / total) * 100) }] };
  },
};

const network: Meter = {
  topic: "demo.network",
  title: "Network",
  unit: "bytes a second",
  about: "Network traffic in and out",
  format: (value) => `${bytes(value)}/s`,
  ceil: (most) => ceiling(Math.max(1024, most * 1.05), 1024),
  read(data) {
    const [received, sent] = [finite(data.received), finite(data.sent)];
    if (received === undefined || sent === undefined) return undefined;
    return { values: [received, sent], rows: [{ label: "in", text: `${bytes(received)}/s`, line: 0 }, { label: "out", text: `${bytes(sent)}/s`, line: 1 }] };
  },
};

const deliveries: Meter = {
  topic: "demo.gateway",
  title: "Deliveries",
  unit: "of this node, a second",
  about: "Deliveries of this node to all its clients, a second",
  fill: true,
  sticks: 0.15,
  format: perSecond,
  ceil: (most) => ceiling(Math.max(10, most * 1.25)),
  read(data) {
    const delivered = finite(data.deliveries);
    return delivered === undefined ? undefined : { values: [delivered], rows: [{ label: "now", text: perSecond(delivered), line: 0 }] };
  },
};

const connections: Meter = {
  topic: "demo.gateway",
  title: "Connections",
  unit: "of this node",
  about: "Connections and Subscriptions of this node",
  format: count,
  ceil: (most) => ceiling(Math.max(4, most * 1.1)),
  read(data) {
    const [open, subscriptions] = [finite(data.connections), finite(data.subscriptions)];
    if (open === undefined || subscriptions === undefined) return undefined;
    return { values: [open, subscriptions], rows: [{ label: "connections", text: count(open), line: 0 }, { label: "subscriptions", text: count(subscriptions), line: 1 }] };
  },
};

export const METERS: readonly Meter[] = [cpu, memory, network, deliveries, connections];
