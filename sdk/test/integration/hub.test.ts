// The worker that tabs share, on a real gateway, and tabs that do not behave.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CLIENT } from "../../src/codec.ts";
import type { Command, Frame } from "../../src/codec.ts";
import { serveTabs } from "../../src/hub.ts";
import { Gateway, missing, until } from "../servers.ts";

/** A tab's end of its port, that says only what a test says. */
class RawTab {
  readonly heard: unknown[] = [];
  readonly #port: MessagePort;
  #release = (): void => {};

  constructor(worker: { onconnect?: (event: MessageEvent) => void }) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = ({ data }) => this.heard.push(data);
    worker.onconnect?.({ ports: [port2] } as unknown as MessageEvent);
  }

  async open(url: string): Promise<void> {
    const lock = crypto.randomUUID();
    await new Promise<void>((held) => {
      void navigator.locks.request(lock, () => {
        held();
        return new Promise<void>((release) => (this.#release = release));
      });
    });
    this.#port.postMessage({ lock, url });
  }

  send(command: Command): void {
    this.#port.postMessage(command);
  }

  frames(): Frame[] {
    return this.heard.filter((data) => Array.isArray(data)).flat() as Frame[];
  }

  /** As the browser does it when the tab dies. */
  die(): void {
    this.#release();
  }

  close(): void {
    this.die();
    this.#port.close();
  }
}

const why = missing() ?? ("locks" in navigator ? false : "no locks in this Node");

describe("the worker of all tabs", { skip: why }, () => {
  let gateway: Gateway;
  let worker: { onconnect?: (event: MessageEvent) => void };

  before(async () => {
    // Its heartbeat is also that of the worker.
    gateway = await Gateway.start({ lines: ["limits: {ping_after: 1s, pong_timeout: 5s}"] });
    serveTabs((worker = {}));
  });
  after(() => gateway?.stop());

  async function tab(pattern: string): Promise<RawTab> {
    const tab = new RawTab(worker);
    await tab.open(gateway.origin);
    tab.send({ type: "connect", id: 1, client: CLIENT, heartbeat: "message" });
    tab.send({ type: "subscribe", id: 2, topics: [{ topic: pattern, from: "live" }] });
    await until("it is subscribed", () => tab.frames().some(({ type }) => type === "subscribed"));
    return tab;
  }

  test("says its version first, and answers as a node", async () => {
    const one = await tab("kept.a");
    assert.equal(one.heard[0], CLIENT);
    const [connected, subscribed] = one.frames();
    assert.equal(connected?.type, "connected");
    assert.equal(connected?.type === "connected" && connected.id, 1);
    assert.deepEqual({ ...subscribed, cursor: "" }, { type: "subscribed", id: 2, topic: "kept.a", cursor: "", recovered: true, reason: undefined, replayed: 0, more: false });
    one.send({ type: "ping", id: 3 });
    await until("the gateway has answered", () => one.frames().some((frame) => frame.type === "pong" && frame.id === 3));
    one.send({ type: "subscribe", id: 4, topics: [{ topic: "nobody.x", from: "live" }] });
    await until("it is refused", () => one.frames().some((frame) => frame.type === "error" && frame.id === 4 && frame.topic === "nobody.x"));
    one.close();
    await until("the last one takes the connection along", async () => (await gateway.connections()) === 0);
  });

  test("lets a tab go that answers nothing, and keeps the others", async () => {
    const [silent, other] = [await tab("kept.b"), await tab("kept.c")];
    const answering = setInterval(() => other.send({ type: "pong" }), 200);
    try {
      await until("the silent one is let go", () => silent.heard.some((data) => String((data as { reason?: string }).reason).includes("slow_consumer")));
      const end = silent.heard.at(-1) as { reason: string };
      assert.deepEqual(JSON.parse(end.reason), { code: "slow_consumer", retry: true });
      await until("its Subscription has ended", async () => (await gateway.status()).subscriptions === 1);
      await gateway.publish("kept.c", 1);
      await until("the other one goes on", () => other.frames().some(({ type }) => type === "message"));
      assert.equal(await gateway.connections(), 1);
    } finally {
      clearInterval(answering);
      silent.close();
      other.close();
    }
    await until("nobody is left", async () => (await gateway.connections()) === 0);
  });

  test("knows by the lock of a tab that died", async () => {
    const one = await tab("open.d");
    one.die();
    await until("its connection has ended", async () => (await gateway.connections()) === 0);
    one.close();
  });
});
