// The fallback Transport, against real gateways.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { createClient } from "../../src/index.ts";
import type { Client, ClientOptions, Transport } from "../../src/index.ts";
import { sse } from "../../src/sse.ts";
import { cable, natsWithStreams, publish, serve, token, until } from "./processes.ts";

type Topics = Record<string, number | string | Uint8Array>;

function join(t: TestContext, url: string, options: ClientOptions = {}): Client<Topics> {
  const client = createClient<Topics>({ url, token: token(), transports: [sse()], ...options });
  t.after(() => client.close());
  return client;
}

function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, at) => from + at);
}

test("the newest values, then what comes", async (t) => {
  const { url } = await serve(t);
  await publish(url, "dash.eu", 1, token());
  await publish(url, "dash.eu", 2, token());
  await publish(url, "dash.us", 3, token());
  const client = join(t, url);
  const got: string[] = [];
  const subscription = client.pattern("dash.**").subscribe(
    ({ topic, data, replayed }) => {
      got.push(`${topic} ${data}${replayed ? " again" : ""}`);
    },
    { from: "last" },
  );
  assert.deepEqual(await subscription.ready, { recovered: true, replayed: 2, reason: undefined });
  await publish(url, "dash.eu", 4, token());
  await until("all has come", () => got.length === 3);
  assert.deepEqual(got, ["dash.eu 2 again", "dash.us 3 again", "dash.eu 4"]);
  assert.equal(client.connection?.transport, "sse");
});

test("publish with a key, delete, and read back", async (t) => {
  const { url } = await serve(t);
  const client = join(t, url);
  const topic = client.topic("dash.eu");
  const first = await topic.publish("héllo", { key: '"k"' });
  const again = await topic.publish("other", { key: '"k"' });
  assert.deepEqual([again.id, again.duplicate, first.duplicate], [first.id, true, false]);
  await topic.delete();
  const page = await topic.history({ limit: 1 });
  assert.deepEqual(page.items.map(({ data }) => data), ["héllo"]);
  const next = await topic.history({ from: page.next! });
  assert.deepEqual(next.items.map(({ deleted }) => deleted), [true]);
  await client.topic("dash.bytes").publish(new Uint8Array([255, 0, 254]));
  const [item] = (await client.topic("dash.bytes").history()).items;
  assert.deepEqual(item?.data, new Uint8Array([255, 0, 254]));
  assert.equal((await client.topic("chat.1").publish(1)).cursor, undefined);
  await assert.rejects(client.topic("a b").publish(1), { code: "invalid_topic" });
  await assert.rejects(client.topic("chat.1").history(), { code: "not_supported" });
});

test("cut and back: nothing that is kept is missing, and what is not kept is told", async (t) => {
  const { url } = await serve(t);
  const way = await cable(t, { url });
  const client = join(t, way.url);
  const got: unknown[] = [];
  const gaps: string[] = [];
  const kept = client.pattern("dash.>").subscribe(({ data }) => got.push(data));
  const fleeting = client.pattern("chat.>").subscribe(() => {});
  kept.on("gap", ({ reason }) => gaps.push(`dash ${reason}`));
  fleeting.on("gap", ({ reason }) => gaps.push(`chat ${reason}`));
  await Promise.all([kept.ready, fleeting.ready]);
  for (const n of numbers(1, 40)) {
    if (n === 10) way.cut();
    await publish(url, "dash.eu", n, token());
  }
  await until("it is back, and all has come", () => got.length === 40 && fleeting.state === "live");
  assert.deepEqual(got, numbers(1, 40));
  assert.deepEqual(gaps, ["chat connection_lost"]);
});

test("subscriptions come and go while others miss nothing, kept or not", async (t) => {
  const { url } = await serve(t);
  const client = join(t, url);
  const got = { dash: [] as unknown[], chat: [] as unknown[] };
  const gaps: string[] = [];
  const steady = [
    client.pattern("dash.>").subscribe(({ data }) => got.dash.push(data)),
    client.pattern("chat.>").subscribe(({ data }) => got.chat.push(data)),
  ];
  for (const one of steady) one.on("gap", ({ reason }) => gaps.push(reason));
  await Promise.all(steady.map(({ ready }) => ready));

  let published = 0;
  let done = false;
  const publishing = (async () => {
    while (!done) {
      published += 1;
      await Promise.all([publish(url, "dash.eu", published, token()), publish(url, "chat.1", published, token())]);
    }
  })();
  for (const from of ["live", "last", { last: 5 }, { since: new Date(0) }] as const) {
    const came: number[] = [];
    const topic = client.topic("dash.eu");
    const passing = topic.subscribe(({ data }) => void came.push(Number(data)), { from: from as "live" });
    const other = client.pattern("news.>").subscribe(() => {});
    assert.equal((await passing.ready).recovered, true);
    await other.ready;
    const before = published;
    await until("it hears what is published now", () => (came.at(-1) ?? 0) > before);
    assert.deepEqual(came, numbers(came[0]!, came.at(-1)!));
    await Promise.all([passing.unsubscribe(), other.unsubscribe()]);
  }
  done = true;
  await publishing;
  await until("all has come", () => got.dash.length >= published && got.chat.length >= published);
  assert.deepEqual(got, { dash: numbers(1, published), chat: numbers(1, published) });
  assert.deepEqual(gaps, []);
});

test("another Token, and nobody notices", async (t) => {
  const { url } = await serve(t);
  const asked: string[] = [];
  const client = join(t, url, {
    token: ({ reason }) => {
      asked.push(reason);
      return token(asked.length === 1 ? 14 : 3_600);
    },
  });
  const [got, gaps, states]: [unknown[], string[], string[]] = [[], [], []];
  const subscription = client.pattern("chat.>").subscribe(({ data }) => void got.push(data));
  subscription.on("gap", ({ reason }) => gaps.push(reason));
  await subscription.ready;
  client.on("state", (state) => states.push(state));
  const end = Number(client.connection?.expiresAt);
  let sent = 0;
  await until("the Token is renewed, and the first one is over", async () => {
    await publish(url, "chat.1", (sent += 1), token());
    return asked.length === 2 && Date.now() > end + 1_000;
  });
  await until("all have come", () => got.length === sent);
  assert.deepEqual([got, gaps, states, asked], [numbers(1, sent), [], [], ["connect", "expiring"]]);
});

test("a Token that is not good, and a pattern that it does not cover", async (t) => {
  const { url } = await serve(t);
  const stranger = join(t, url, { token: "no token at all" });
  await assert.rejects(stranger.pattern("dash.>").subscribe().ready, { code: "unauthenticated" });
  assert.equal(stranger.state, "closed");

  const client = join(t, url, { token: token(60, "ana", ["dash.>"]) });
  const allowed = client.pattern("dash.>").subscribe(() => {});
  const forbidden = client.pattern("admin.>").subscribe(() => {});
  await assert.rejects(forbidden.ready, { code: "forbidden" });
  assert.equal((await allowed.ready).recovered, true);
  await assert.rejects(client.topic("chat.1").publish(1), { code: "forbidden" });
});

test("a node that leaves: the other one goes on where it was", async (t) => {
  const nats = await natsWithStreams(t);
  const [first, second] = [await serve(t, nats), await serve(t, nats)];
  const way = await cable(t, first);
  await publish(second.url, "dash.eu", "of before", token());
  const client = join(t, way.url);
  const [got, gaps]: [unknown[], string[]] = [[], []];
  const kept = client.pattern("dash.>").subscribe(({ data }) => void got.push(data));
  const fleeting = client.pattern("chat.>").subscribe(() => {});
  kept.on("gap", ({ reason }) => gaps.push(`dash ${reason}`));
  fleeting.on("gap", ({ reason }) => gaps.push(`chat ${reason}`));
  await Promise.all([kept.ready, fleeting.ready]);
  const { id } = await client.connect();
  way.to = second;
  first.process.kill("SIGTERM");
  let sent = 0;
  await until("it has moved, and hears what is published now", async () => {
    await publish(second.url, "dash.eu", (sent += 1), token());
    return client.connection?.id !== id && fleeting.state === "live" && got.includes(sent - 1);
  });
  await until("all have come", () => got.length === sent);
  assert.deepEqual(got, numbers(1, sent));
  assert.deepEqual(gaps, ["chat connection_lost"]);
});

test("where no WebSocket gets through, it is what the client falls back to", async (t) => {
  const { url } = await serve(t);
  const blocked: Transport = {
    name: "blocked",
    usable: true,
    open: (_, listener) => {
      queueMicrotask(() => listener.ended({ status: 1006, reason: "" }));
      return { send: () => {}, close: () => {} };
    },
  };
  const client = join(t, url, { transports: [blocked, sse()], retry: { minMs: 50 } });
  assert.equal((await client.pattern("dash.>").subscribe().ready).recovered, true);
  assert.equal(client.connection?.transport, "sse");
});
