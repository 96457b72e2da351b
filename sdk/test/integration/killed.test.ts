// Clients of three gateways on one JetStream, behind a balancer that takes turns, of which one after the other is
// killed: everybody sees every message once, in order, by WebSocket or by SSE; those who share one connection, too,
// and who joins meanwhile from there on. FULL_SIZE=1 takes 200 clients and two minutes.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { TestContext } from "node:test";
import { serveTabs } from "../../src/hub.ts";
import { createClient } from "../../src/index.ts";
import type { Client, Subscription } from "../../src/index.ts";
import { shared } from "../../src/shared.ts";
import { sse } from "../../src/sse.ts";
import { Balancer, Gateway, missing, Nats, pause, token, until } from "../servers.ts";

const FULL = process.env["FULL_SIZE"] === "1";
const CLIENTS = FULL ? 200 : 20;
const GATEWAYS = 3;
const LENGTH_MS = FULL ? 120_000 : 15_000;
const KILL_EVERY_MS = 5_000;
/** How long a node stays away. */
const AWAY_MS = 1_500;
/** Of tabs that share. */
const USERS = 2;
const TOPICS = ["t0", "t1", "t2", "t3", "t4"];
/** Between two messages on one Topic. */
const PUBLISH_EVERY_MS = 100;
const SOON_MS = 60_000;

/** What one Subscription has seen. */
class Watcher {
  readonly client: Client;
  readonly subscription: Subscription;
  readonly numbers = new Map<string, number[]>();
  readonly gaps: string[] = [];
  error = "";

  constructor(client: Client, pattern: string, from: "live" | "last" = "live") {
    this.client = client;
    this.subscription = client.pattern(pattern).subscribe(({ topic, data }) => {
      const numbers = this.numbers.get(topic) ?? [];
      numbers.push(data as number);
      this.numbers.set(topic, numbers);
    }, { from });
    this.subscription.on("gap", ({ reason }) => this.gaps.push(reason));
    this.subscription.on("error", ({ code, message }) => (this.error = `${code}: ${message}`));
  }

  /** Whether the last of so many is there. */
  ends(topic: string, count: number): boolean {
    return this.numbers.get(topic)?.at(-1) === count - 1;
  }
}

/** What a browser has, for tabs that are all in this process: the worker, and a port to it for each of them. */
function shareHere(): void {
  const worker: { onconnect?: (event: MessageEvent) => void } = {};
  serveTabs(worker);
  class SharedWorker {
    readonly port: MessagePort;

    constructor() {
      const { port1, port2 } = new MessageChannel();
      this.port = port1;
      queueMicrotask(() => worker.onconnect?.({ ports: [port2] } as unknown as MessageEvent));
    }
  }
  Object.assign(globalThis, { SharedWorker });
}

describe("gateways that are killed", { skip: missing() ?? false }, () => {
  let nats: Nats;
  let gateways: Gateway[];
  let balancer: Balancer;

  before(async () => {
    nats = await Nats.start();
    gateways = await Promise.all(Array.from({ length: GATEWAYS }, () => Gateway.start({ nats: nats.url })));
    balancer = await Balancer.start(...gateways.map(({ port }) => port));
  });
  after(async () => {
    await balancer?.stop();
    for (const gateway of gateways ?? []) await gateway.stop();
    await nats?.stop();
  });

  const connections = async (): Promise<number> => {
    const counts = await Promise.all(gateways.map((gateway) => gateway.connections()));
    return counts.reduce((sum, count) => sum + count, 0);
  };

  const alone = (at: number): Client =>
    createClient({ url: balancer.origin, ...(at % 2 === 1 && { transports: [sse()] }) });
  const tab = (at: number): Client =>
    createClient({ url: balancer.origin, token: token(`user ${at % USERS}`), transports: [shared({ worker: "here" })] });

  test(`${CLIENTS} clients see every message once and in order`, (context) => run(context, "kept.alone", alone));

  const can = "locks" in navigator;
  test(`${CLIENTS} tabs of ${USERS} users do, by ${USERS} connections`, { skip: can ? false : "no locks in this Node" }, async (context) => {
    shareHere();
    await run(context, "kept.shared", tab);
  });

  async function run(context: TestContext, root: string, make: (at: number) => Client): Promise<void> {
    const clients = Array.from({ length: CLIENTS }, (_, at) => make(at));
    const publisher = createClient({ url: balancer.origin, token: token("publisher") });
    const joined: Watcher[] = [];
    context.after(() => Promise.all([publisher, ...clients, ...joined.map(({ client }) => client)].map((client) => client.close())));
    let lost = 0;
    for (const client of clients) client.on("state", (state) => (lost += state === "waiting" ? 1 : 0));
    const all = clients.map((client) => new Watcher(client, `${root}.>`));
    // Every fourth has another one, which overlaps.
    const some = clients.filter((_, at) => at % 4 === 0).map((client) => new Watcher(client, `${root}.t1`));
    for (const { subscription } of [...all, ...some]) await subscription.ready;
    if (make === tab) assert.equal(await connections(), USERS);

    const topics = TOPICS.map((name) => `${root}.${name}`);
    const start = Date.now();
    const publish = async (topic: string): Promise<number> => {
      let published = 0;
      while (Date.now() - start < LENGTH_MS) {
        // The key, of a user, makes it safe to repeat, and the next one waits: the order is that of the numbers.
        const key = `${topic} ${published}`;
        const done = publisher.topic(topic).publish(published, { key }).then(() => true, () => false);
        if (await done) published += 1;
        await pause(PUBLISH_EVERY_MS);
      }
      return published;
    };
    const publishing = Promise.all(topics.map(publish));

    let kills = 0;
    while (Date.now() - start < LENGTH_MS - KILL_EVERY_MS / 2) {
      await pause(KILL_EVERY_MS - AWAY_MS);
      const gateway = gateways[kills % gateways.length]!;
      await gateway.kill();
      kills += 1;
      joined.push(new Watcher(make(kills), `${root}.>`, "last"));
      await pause(AWAY_MS);
      await gateway.run();
    }
    const published = await publishing;

    const whole = (watcher: Watcher): boolean => topics.every((topic, at) => watcher.ends(topic, published[at]!));
    const late = (): Watcher[] => [...[...all, ...joined].filter((one) => !whole(one)), ...some.filter((one) => !one.ends(`${root}.t1`, published[1]!))];
    await until("everybody has the last", () => late().length === 0, SOON_MS).catch((cause: unknown) => {
      const how = late().map(({ client, subscription, error }) => `${client.state} ${subscription.state} ${error}`);
      throw new Error(`${how.length} are late: ${how.join(", ")}`, { cause });
    });
    const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at);
    for (const { numbers, gaps } of all) {
      topics.forEach((topic, at) => assert.deepEqual(numbers.get(topic), upTo(published[at]!)));
      assert.deepEqual(gaps, []);
    }
    for (const { numbers, gaps } of some) {
      assert.deepEqual([...numbers], [[`${root}.t1`, upTo(published[1]!)]]);
      assert.deepEqual(gaps, []);
    }
    for (const { numbers, gaps } of joined) {
      topics.forEach((topic, at) => assert.deepEqual(numbers.get(topic), upTo(published[at]!).slice(numbers.get(topic)?.[0])));
      assert.deepEqual(gaps, []);
    }
    const sum = published.reduce((sum, count) => sum + count, 0);
    context.diagnostic(`${sum} messages, ${kills} kills, ${CLIENTS} clients, ${lost} lost connections`);
  }
});
