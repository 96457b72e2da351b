// Clients of two gateways on one JetStream, of which one after the other is killed: everybody sees every message
// once, in order. FULL_SIZE=1 takes 200 clients and a minute.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "../../src/index.ts";
import type { Client, Subscription } from "../../src/index.ts";
import { Balancer, Gateway, missing, Nats, pause, token, until } from "../servers.ts";

const FULL = process.env["FULL_SIZE"] === "1";
const CLIENTS = FULL ? 200 : 20;
const LENGTH_MS = FULL ? 60_000 : 10_000;
const KILL_EVERY_MS = 5_000;
/** How long a node stays away. */
const AWAY_MS = 1_500;
const TOPICS = ["kept.t0", "kept.t1", "kept.t2", "kept.t3", "kept.t4"];
/** Between two messages on one Topic. */
const PUBLISH_EVERY_MS = 100;
const SOON_MS = 60_000;

/** What one Subscription has seen. */
class Watcher {
  readonly subscription: Subscription;
  readonly numbers = new Map<string, number[]>();
  readonly gaps: string[] = [];

  constructor(client: Client, pattern: string) {
    this.subscription = client.pattern(pattern).subscribe(({ topic, data }) => {
      const numbers = this.numbers.get(topic) ?? [];
      numbers.push(data as number);
      this.numbers.set(topic, numbers);
    });
    this.subscription.on("gap", ({ reason }) => this.gaps.push(reason));
  }

  has(topic: string, count: number): boolean {
    return (this.numbers.get(topic)?.length ?? 0) >= count;
  }
}

describe("gateways that are killed", { skip: missing() ?? false }, () => {
  let nats: Nats;
  let gateways: Gateway[];
  let balancer: Balancer;

  before(async () => {
    nats = await Nats.start();
    gateways = [await Gateway.start({ nats: nats.url }), await Gateway.start({ nats: nats.url })];
    balancer = await Balancer.start(...gateways.map(({ port }) => port));
  });
  after(async () => {
    await balancer?.stop();
    for (const gateway of gateways ?? []) await gateway.stop();
    await nats?.stop();
  });

  test(`${CLIENTS} clients see every message once and in order`, async (context) => {
    const clients = Array.from({ length: CLIENTS }, () => createClient({ url: balancer.origin }));
    let lost = 0;
    for (const client of clients) client.on("state", (state) => (lost += state === "waiting" ? 1 : 0));
    const all = clients.map((client) => new Watcher(client, "kept.>"));
    // Every fourth has another one, which overlaps.
    const some = clients.filter((_, at) => at % 4 === 0).map((client) => new Watcher(client, "kept.t1"));
    for (const { subscription } of [...all, ...some]) await subscription.ready;

    const start = Date.now();
    const publisher = createClient({ url: balancer.origin, token: token("publisher") });
    context.after(() => Promise.all([publisher, ...clients].map((client) => client.close())));
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
    const publishing = Promise.all(TOPICS.map(publish));

    let kills = 0;
    while (Date.now() - start < LENGTH_MS - KILL_EVERY_MS / 2) {
      await pause(KILL_EVERY_MS - AWAY_MS);
      const gateway = gateways[kills % gateways.length]!;
      await gateway.kill();
      kills += 1;
      await pause(AWAY_MS);
      await gateway.run();
    }
    const published = await publishing;

    const whole = (watcher: Watcher): boolean => TOPICS.every((topic, at) => watcher.has(topic, published[at]!));
    await until("everybody has the last", () => all.every(whole) && some.every((one) => one.has("kept.t1", published[1]!)), SOON_MS);
    const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at);
    for (const { numbers, gaps } of all) {
      TOPICS.forEach((topic, at) => assert.deepEqual(numbers.get(topic), upTo(published[at]!)));
      assert.deepEqual(gaps, []);
    }
    for (const { numbers, gaps } of some) {
      assert.deepEqual([...numbers], [["kept.t1", upTo(published[1]!)]]);
      assert.deepEqual(gaps, []);
    }
    const sum = published.reduce((sum, count) => sum + count, 0);
    context.diagnostic(`${sum} messages, ${kills} kills, ${CLIENTS} clients, ${lost} lost connections`);
  });
});
