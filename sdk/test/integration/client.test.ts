// The client against real gateways.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { createClient } from "../../src/index.ts";
import type { Client, ClientOptions, Gap } from "../../src/index.ts";
import { balancer, dev, natsWithStreams, publish, serve, token, until } from "./processes.ts";

function connectTo(t: TestContext, url: string, options: ClientOptions = {}): Client {
  const client = createClient({ url, retry: { minMs: 50 }, ...options });
  t.after(() => client.close());
  return client;
}

/** Subscribes to a counter, and knows whether one is missing. */
async function count(client: Client, topic: string): Promise<{ seen: number[]; gaps: Gap[] }> {
  const [seen, gaps]: [number[], Gap[]] = [[], []];
  const subscription = client.pattern<number>(topic).subscribe(({ data }) => void seen.push(data as number));
  subscription.on("gap", (gap) => gaps.push(gap));
  await subscription.ready;
  return { seen, gaps };
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n);

test("the newest value, then what is live; a cut connection loses nothing", async (t) => {
  const { url } = await dev(t);
  const client = connectTo(t, url);
  await publish(url, "demo.sdk.a", "old");
  await publish(url, "demo.sdk.a", "newest");
  const seen: unknown[] = [];
  const subscription = client
    .pattern("demo.sdk.**")
    .subscribe(({ data, replayed }) => void seen.push([data, replayed]), { from: "last" });
  assert.deepEqual(await subscription.ready, { recovered: true, replayed: 1, reason: undefined });
  assert.deepEqual(seen, [["newest", true]]);

  const { seen: counted, gaps } = await count(client, "demo.sdk.counter");
  const first = client.connection?.id;
  for (const n of numbers(1, 50)) {
    await publish(url, "demo.sdk.counter", n);
    if (n % 10 === 5) {
      const cut = {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ connection: client.connection?.id }),
      };
      await fetch(`${url}/dev/cut`, cut);
    }
  }
  await until("all have come", () => counted.length >= 50);
  assert.deepEqual(counted, numbers(1, 50));
  assert.deepEqual(gaps, []);
  await client.connect();
  assert.notEqual(client.connection?.id, first);
});

test("publishing, reading back, tombstones, bytes, and a live map", async (t) => {
  const { url } = await dev(t);
  const client = connectTo(t, url);
  const map = client.pattern("demo.sdk.map.*").live();
  const topic = client.topic("demo.sdk.map.a");
  const { id, cursor, duplicate } = await topic.publish({ total: 40 }, { key: "k-1" });
  assert.ok(cursor);
  assert.equal(duplicate, false);
  assert.deepEqual(await topic.publish({ total: 40 }, { key: "k-1" }), { id, cursor, duplicate: true });
  await client.topic("demo.sdk.map.b").publish(new Uint8Array([255, 0, 254]));
  await map.synced;
  await until("the map has both", () => map.snapshot().size === 2);
  assert.deepEqual(map.get("demo.sdk.map.a"), { total: 40 });
  assert.deepEqual(map.get("demo.sdk.map.b"), new Uint8Array([255, 0, 254]));
  await client.topic("demo.sdk.map.b").delete();
  await until("it is gone", () => map.snapshot().size === 1);
  assert.equal(map.stale, false);

  for (const n of numbers(1, 5)) await topic.publish(n);
  const page = await topic.history({ limit: 4 });
  assert.deepEqual(
    page.items.map(({ data }) => data),
    [{ total: 40 }, 1, 2, 3],
  );
  assert.ok(page.next);
  assert.deepEqual(
    (await topic.history({ from: page.next })).items.map(({ data }) => data),
    [4, 5],
  );
  await assert.rejects(client.topic("demo.a b").publish(1), { code: "invalid_topic" });
});

test("who begins elsewhere joins a subscription that is live, and nobody misses anything", async (t) => {
  const { url } = await dev(t);
  const client = connectTo(t, url);
  const { seen, gaps } = await count(client, "demo.sdk.shared");
  for (const n of numbers(1, 10)) await publish(url, "demo.sdk.shared", n);
  const late: number[] = [];
  const guest = client
    .topic("demo.sdk.shared")
    .subscribe(({ data }) => void late.push(data as number), { from: { last: 3 } });
  for (const n of numbers(11, 30)) await publish(url, "demo.sdk.shared", n);
  await guest.ready;
  await until("all have come", () => seen.length >= 30 && late.at(-1) === 30);
  assert.deepEqual(seen, numbers(1, 30));
  assert.deepEqual(late, numbers(late[0] as number, 30));
  assert.ok((late[0] as number) >= 8, "the last three of the moment when it was asked");
  assert.deepEqual(gaps, []);
});

test("refusals come in words", async (t) => {
  const { url } = await dev(t);
  const client = connectTo(t, url);
  await assert.rejects(client.pattern("secret.**").subscribe().ready, { code: "unauthenticated" });
  const stranger = connectTo(t, url, { token: "no token at all" });
  await assert.rejects(stranger.connect(), { name: "TidegateError", code: "unauthenticated" });
});

test("the token is renewed in band, before it ends", async (t) => {
  const { url } = await serve(t);
  const asked: string[] = [];
  const client = connectTo(t, url, {
    token: ({ reason }) => {
      asked.push(reason);
      return token(asked.length === 1 ? 20 : 3_600);
    },
  });
  const { id } = await client.connect();
  const { seen } = await count(client, "dash.a");
  const end = client.connection?.expiresAt;
  assert.ok(end);
  await until("it is renewed", () => Number(client.connection?.expiresAt) > Number(end));
  await until("the first one is over", () => Date.now() > Number(end) + 1_000);
  await publish(url, "dash.a", 1, token());
  await until("it still comes", () => seen.length === 1);
  assert.deepEqual(asked, ["connect", "expiring"]);
  assert.equal(client.connection?.id, id);
});

test("one gateway dies, another takes over, and nothing that is kept is missing", async (t) => {
  const nats = await natsWithStreams(t);
  const [first, second] = [await serve(t, nats), await serve(t, nats)];
  const client = connectTo(t, await balancer(t, [first, second]), { token: token() });
  const { seen, gaps } = await count(client, "dash.counter");
  const map = client.pattern<number>("dash.*").live();
  await map.synced;
  for (const n of numbers(1, 60)) {
    await publish(second.url, "dash.counter", n, token());
    if (n === 20) first.process.kill("SIGKILL");
  }
  await until("all have come", () => seen.length >= 60);
  assert.deepEqual(seen, numbers(1, 60));
  assert.deepEqual(gaps, []);
  await until("the map has the last one", () => map.get("dash.counter") === 60 && !map.stale);
});

test("a node that leaves tells its clients, and they move before it ends", async (t) => {
  const nats = await natsWithStreams(t);
  const [first, second] = [await serve(t, nats), await serve(t, nats)];
  const gateways = [first, second];
  const client = connectTo(t, await balancer(t, gateways), { token: token() });
  const { seen, gaps } = await count(client, "dash.counter");
  const { seen: chatted, gaps: missed } = await count(client, "chat.counter");
  const { id } = await client.connect();
  const states: string[] = [];
  client.on("state", (state) => states.push(state));
  gateways.reverse();
  first.process.kill("SIGTERM");
  let [sent, ended] = [0, false];
  first.process.once("exit", () => (ended = true));
  while (!ended) {
    await publish(second.url, "dash.counter", (sent += 1), token());
    await publish(second.url, "chat.counter", sent, token());
  }
  await publish(second.url, "dash.counter", (sent += 1), token());
  await until("all have come", () => seen.length >= sent);
  assert.notEqual(client.connection?.id, id);
  assert.deepEqual(seen, numbers(1, sent));
  assert.deepEqual([gaps, missed, states], [[], [], []]);
  // What comes through two nodes where nothing is kept comes once, and in the order of each.
  assert.deepEqual(chatted.sort((a, b) => a - b), numbers(1, chatted.length));
});
