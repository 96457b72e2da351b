// A tab and the worker that it shares its connection with, against a scripted socket: what the worker is told of a
// history that is no more reaches the tab, and the place that was in it does not.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import type { Command, Frame } from "../src/codec.ts";
import { serveTabs } from "../src/hub.ts";
import { createClient } from "../src/index.ts";
import type { Client, Subscription } from "../src/index.ts";
import type { LinkListener, Transport } from "../src/transport.ts";
import { clock, cursor, FakeLink, gap, message, turn } from "./gateway.ts";

const WAIT_MS = 20_000;

/** The worker's one socket, seen from the gateway's side. */
class FakeSocket {
  static readonly CONNECTING = 0;
  static last: FakeSocket | undefined;
  readonly readyState = 1;
  onmessage: ((event: { data: string }) => void) | null = null;
  readonly link: FakeLink;

  constructor() {
    const frame = (frame: Frame): void => this.onmessage?.({ data: JSON.stringify(frame) });
    this.link = new FakeLink(new URL("https://example.com"), { frame, ended: () => {} });
    FakeSocket.last = this;
  }

  send(text: string): void {
    this.link.send(JSON.parse(text) as Command);
  }

  close(): void {}
}

/** As the browser has it, but that nobody else is in the worker's lock. */
function tab(): Transport {
  const worker: { onconnect?: (event: MessageEvent) => void } = {};
  serveTabs(worker);
  const open = (url: URL, listener: LinkListener) => {
    const { port1: port, port2 } = new MessageChannel();
    port.onmessage = ({ data }) => Array.isArray(data) && data.forEach((frame: Frame) => listener.frame(frame));
    worker.onconnect?.({ ports: [port2] } as unknown as MessageEvent);
    const lock = crypto.randomUUID();
    let release = (): void => {};
    const held = new Promise<void>((held) => {
      void navigator.locks.request(lock, () => {
        held();
        return new Promise<void>((free) => (release = free));
      });
    });
    const send = (word: unknown): void => void held.then(() => port.postMessage(word));
    send({ lock, url: url.href });
    return {
      send,
      close() {
        release();
        port.close();
      },
    };
  };
  return { name: "tab", usable: true, open };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const from = performance.now(); !holds(); await turn()) assert.ok(performance.now() - from < WAIT_MS, what);
}

let client: Client;
let socket: FakeLink;
let subscription: Subscription;
let heard: unknown[];

const why = "locks" in navigator ? false : "no locks in this Node";
const { WebSocket } = globalThis;

beforeEach(async () => {
  if (why) return;
  clock.stop();
  globalThis.WebSocket = FakeSocket as unknown as typeof WebSocket;
  client = createClient({ url: "https://example.com", transports: [tab()] });
  subscription = client.topic("dash.a").subscribe();
  heard = [];
  subscription.on("message", ({ data }) => heard.push(data));
  subscription.on("gap", ({ reason, resumed }) => heard.push(`${reason} ${resumed}`));
  await until("the worker dials", () => FakeSocket.last !== undefined);
  socket = FakeSocket.last!.link;
  socket.connected();
  await until("the worker subscribes", () => socket.all("subscribe").length > 0);
  socket.subscribed("dash.a", { cursor: cursor(8) });
  await until("the tab is live", () => subscription.state === "live" && subscription.cursor === cursor(8));
});

afterEach(async () => {
  if (why) return;
  await client.close();
  await turn();
  FakeSocket.last = undefined;
  globalThis.WebSocket = WebSocket;
  clock.start();
});

test("a gap reaches the tab, and no beat puts it back to the old place", { skip: why }, async () => {
  socket.push(gap("dash.a", "epoch_changed"));
  await until("the tab is told", () => heard.length > 0);
  await clock.pass(25_000);
  await turn();
  socket.push(message("dash.a", 3, 3), message("dash.a", 4, 4));
  await until("all has come", () => heard.length === 3);
  assert.deepEqual(heard, ["epoch_changed false", 3, 4]);
  assert.deepEqual([subscription.state, subscription.cursor], ["live", cursor(4)]);
});

test("another history, as another node says it, is told with the place in it", { skip: why }, async () => {
  socket.push({ type: "going_away", reconnect_in_ms: 0 });
  await clock.pass(0);
  await until("the worker moves", () => FakeSocket.last?.link !== socket);
  const next = FakeSocket.last!.link;
  next.connected();
  await until("it subscribes", () => next.all("subscribe").length > 0);
  next.subscribed("dash.a", { cursor: cursor(3), recovered: false, reason: "epoch_changed" });
  await until("the tab is told", () => subscription.cursor === cursor(3));
  next.push(message("dash.a", 4, 4));
  await until("all has come", () => heard.length === 2);
  assert.deepEqual(heard, ["epoch_changed true", 4]);
});
