// Subscriptions as an application has them: loops, queues, pauses, and several with one Pattern.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { createClient } from "../src/index.ts";
import type { Client, Cursor, CursorStore, Gap, Publication, Subscription } from "../src/index.ts";
import { clock, cursor, FakeGateway, gap, message, turn } from "./gateway.ts";

let gateway: FakeGateway;
let client: Client;

beforeEach(() => {
  clock.stop();
  gateway = new FakeGateway();
  client = createClient({ url: "https://example.com", transports: [gateway.transport] });
});

afterEach(async () => {
  await client.close();
  clock.start();
});

/** The Topic `dash.a`, subscribed to, connected and live at offset 1. */
async function live(subscription: Subscription = client.topic("dash.a").subscribe()): Promise<Subscription> {
  await turn();
  gateway.link.connected();
  gateway.link.subscribed(subscription.pattern, { cursor: cursor(1) });
  return subscription;
}

function heard(subscription: Subscription): unknown[] {
  const all: unknown[] = [];
  subscription.on("message", ({ data }) => all.push(data));
  return all;
}

function gaps(subscription: Subscription): Gap[] {
  const all: Gap[] = [];
  subscription.on("gap", (gap) => all.push(gap));
  return all;
}

describe("a loop", () => {
  test("reads what came before it began, and leaving it unsubscribes", async () => {
    const subscription = await live();
    gateway.link.push(message("dash.a", "a", 2), message("dash.a", "b", 3));
    const read: unknown[] = [];
    for await (const { data } of subscription) {
      read.push(data);
      if (data === "b") break;
    }
    assert.deepEqual(read, ["a", "b"]);
    assert.equal(subscription.state, "ended");
    await turn();
    assert.equal(gateway.link.the("unsubscribe").topic, "dash.a");
  });

  test("its place is that of what it has taken", async () => {
    const subscription = await live();
    assert.equal(subscription.cursor, cursor(1));
    gateway.link.push(message("dash.a", "a", 2), message("dash.a", "b", 3));
    const loop = subscription[Symbol.asyncIterator]();
    await loop.next();
    assert.equal(subscription.cursor, cursor(2));
    await loop.next();
    assert.equal(subscription.cursor, cursor(3));
    gateway.link.push({ type: "position", namespace: "dash", cursor: cursor(9) });
    assert.equal(subscription.cursor, cursor(9));
  });

  test("`unsubscribe` lets it read what waits, and ends it", async () => {
    const subscription = await live();
    gateway.link.push(message("dash.a", "a", 2));
    await subscription.unsubscribe();
    gateway.link.push(message("dash.a", "b", 3));
    const read: unknown[] = [];
    for await (const { data } of subscription) read.push(data);
    assert.deepEqual(read, ["a"]);
  });

  test("a subscription that is listened to holds nothing for a loop", async () => {
    const subscription = await live();
    const lost = gaps(subscription);
    heard(subscription);
    for (let offset = 2; offset < 1_500; offset += 1) gateway.link.push(message("dash.a", offset, offset));
    assert.deepEqual(lost, []);
  });
});

describe("a queue that is full", () => {
  const fill = (): void =>
    gateway.link.push(
      message("dash.a", 1, 2),
      message("dash.b", 2, 3),
      message("dash.a", 3, 4),
      message("dash.a", 4, 5),
    );

  async function read(subscription: Subscription): Promise<unknown[]> {
    await subscription.unsubscribe();
    const all: unknown[] = [];
    for await (const { data } of subscription) all.push(data);
    return all;
  }

  test("`drop-oldest` loses the oldest", async () => {
    const subscription = await live(
      client.pattern("dash.*").subscribe({ queue: { max: 2, onFull: "drop-oldest" } }),
    );
    const lost = gaps(subscription);
    fill();
    assert.deepEqual(
      lost.map(({ reason, missed }) => [reason, missed]),
      [
        ["slow_consumer", 1],
        ["slow_consumer", 1],
      ],
    );
    assert.deepEqual(await read(subscription), [3, 4]);
  });

  test("`latest` lets those of the same topic give way", async () => {
    const subscription = await live(client.pattern("dash.*").subscribe({ queue: { max: 2, onFull: "latest" } }));
    const lost = gaps(subscription);
    fill();
    assert.deepEqual(
      lost.map(({ reason, missed }) => [reason, missed]),
      [
        ["conflated", 1],
        ["conflated", 1],
      ],
    );
    assert.deepEqual(await read(subscription), [2, 4]);
  });

  test("`end` ends the subscription, after what waits", async () => {
    const subscription = await live(client.pattern("dash.*").subscribe({ queue: { max: 2, onFull: "end" } }));
    fill();
    assert.equal(subscription.state, "ended");
    const all: unknown[] = [];
    const reading = (async () => {
      for await (const { data } of subscription) all.push(data);
    })();
    await assert.rejects(reading, { code: "slow_consumer" });
    assert.deepEqual(all, [1, 2]);
  });
});

describe("beginning where others do not", () => {
  test("who asks in the same turn is served by one `subscribe`", async () => {
    const late = client.topic("dash.a").subscribe();
    const early = client.topic("dash.a").subscribe({ from: "last" });
    const [fromNow, fromLast] = [heard(late), heard(early)];
    await turn();
    gateway.link.connected();
    assert.deepEqual(gateway.link.the("subscribe").topics, [{ topic: "dash.a", from: "last" }]);
    gateway.link.subscribed("dash.a", { cursor: cursor(2), replayed: 1 });
    gateway.link.push(message("dash.a", "old", 2), message("dash.a", "new", 3));
    assert.deepEqual(fromLast, ["old", "new"]);
    assert.deepEqual(fromNow, ["new"]);
    assert.deepEqual(await late.ready, { recovered: true, replayed: 0, reason: undefined });
    assert.deepEqual(await early.ready, { recovered: true, replayed: 1, reason: undefined });
  });

  test("who comes later has its beginning first; the others miss nothing meanwhile", async () => {
    const present = heard(await live(client.pattern("dash.*").subscribe()));
    const { link } = gateway;
    link.push(message("dash.a", 2, 2));
    const guest = client.pattern("dash.*").subscribe({ from: "last" });
    const table = heard(guest);
    await turn();
    assert.equal(link.the("unsubscribe").topic, "dash.*");
    assert.equal(link.asked("dash.*").from, "last");
    link.subscribed("dash.*", { cursor: cursor(4), replayed: 2 });
    link.push(message("dash.a", 2, 2), message("dash.b", 4, 4));
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(2) }, "back to where the others are");
    link.subscribed("dash.*", { cursor: cursor(5), replayed: 3 });
    link.push(message("dash.b", 3, 3), message("dash.b", 4, 4), message("dash.a", 5, 5), message("dash.a", 6, 6));
    assert.deepEqual(present, [2, 3, 4, 5, 6]);
    assert.deepEqual(table, [2, 4, 5, 6]);
    assert.deepEqual(await guest.ready, { recovered: true, replayed: 3, reason: undefined });
  });

  test("a guest of a node that is behind misses nothing of what the others had before", async () => {
    const present = heard(await live(client.pattern("dash.*").subscribe()));
    const { link } = gateway;
    link.push(message("dash.a", 5, 5));
    const table = heard(client.pattern("dash.*").subscribe({ from: "last" }));
    await turn();
    link.subscribed("dash.*", { cursor: cursor(3), replayed: 1 });
    link.push(message("dash.a", 3, 3));
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(5) }, "back to where the others are");
    link.subscribed("dash.*", { cursor: cursor(5) });
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(3) }, "on from where the guest is");
    link.subscribed("dash.*", { cursor: cursor(5), replayed: 2 });
    link.push(message("dash.b", 4, 4), message("dash.a", 5, 5));
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(5) });
    link.subscribed("dash.*", { cursor: cursor(5) });
    link.push(message("dash.a", 6, 6));
    assert.deepEqual(present, [5, 6]);
    assert.deepEqual(table, [3, 4, 5, 6]);
  });

  test("what the guest is refused is nobody else's trouble", async () => {
    const present = await live(client.pattern("dash.*").subscribe());
    const guest = client.pattern("dash.*").subscribe({ from: "last" });
    await turn();
    const { link } = gateway;
    link.error(link.asked("dash.*").id, "too_many_topics", { topic: "dash.*" });
    await assert.rejects(guest.ready, { code: "too_many_topics" });
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(1) });
    link.subscribed("dash.*", { cursor: cursor(1) });
    assert.equal(present.state, "live");
  });

  test("a guest that is refused for now is served later", async () => {
    const present = await live(client.pattern("dash.*").subscribe());
    const guest = client.pattern("dash.*").subscribe({ from: "last" });
    await turn();
    const { link } = gateway;
    const refused = link.asked("dash.*").id;
    link.error(refused, "rate_limited", { topic: "dash.*", retryable: true, retry_after_ms: 100 });
    await clock.pass(100);
    const { id, from } = link.asked("dash.*");
    assert.deepEqual([id > refused, from], [true, "last"]);
    link.subscribed("dash.*", { cursor: cursor(1), replayed: 1 });
    link.push(message("dash.a", 1, 1));
    await turn();
    link.subscribed("dash.*", { cursor: cursor(1) });
    assert.deepEqual(await guest.ready, { recovered: true, replayed: 1, reason: undefined });
    assert.equal(present.state, "live");
  });

  test("who is still subscribed, as an `unsubscribe` was refused, is unsubscribed again", async () => {
    const present = await live(client.pattern("dash.*").subscribe());
    const guest = client.pattern("dash.*").subscribe({ from: "last" });
    await turn();
    const { link } = gateway;
    link.error(link.the("unsubscribe").id, "rate_limited", { retryable: true });
    link.error(link.asked("dash.*").id, "already_subscribed", { topic: "dash.*" });
    assert.equal(link.all("unsubscribe").length, 2);
    await clock.pass(4_000);
    assert.equal(link.asked("dash.*").from, "last");
    link.subscribed("dash.*", { cursor: cursor(1), replayed: 1 });
    link.push(message("dash.a", 1, 1));
    await turn();
    link.subscribed("dash.*", { cursor: cursor(1) });
    assert.deepEqual(await guest.ready, { recovered: true, replayed: 1, reason: undefined });
    assert.equal(present.state, "live");
  });

  test("a guest that leaves, or loses the connection, leaves no trace", async () => {
    const present = heard(await live());
    const guest = client.topic("dash.a").subscribe({ from: { last: 5 } });
    const fives = heard(guest);
    await turn();
    gateway.link.subscribed("dash.a", { cursor: cursor(1), replayed: 2 });
    gateway.link.push(message("dash.a", 0, 0));
    gateway.link.end(1012, { code: "draining", retry: true, ms: 0 });
    await clock.pass(0);
    gateway.link.connected();
    assert.deepEqual(gateway.link.asked("dash.a").from, { last: 5 });
    gateway.link.subscribed("dash.a", { cursor: cursor(1), replayed: 2 });
    gateway.link.push(message("dash.a", 0, 0), message("dash.a", 1, 1));
    assert.deepEqual(fives, [0, 1]);
    await turn();
    await guest.unsubscribe();
    await turn();
    assert.deepEqual(gateway.link.asked("dash.a").from, { cursor: cursor(1) });
    gateway.link.subscribed("dash.a", { cursor: cursor(2), replayed: 1 });
    gateway.link.push(message("dash.a", 2, 2));
    assert.deepEqual(present, [2]);
  });

  test("a guest that comes by what a message does has nothing of that message", async () => {
    const first = client.topic("dash.a").subscribe();
    const [present, table] = [heard(client.pattern("dash.*").subscribe()), [] as unknown[]];
    first.on("message", () => {
      client.pattern("dash.*").subscribe(({ data }) => table.push(data), { from: "last" });
    });
    await live(first);
    const { link } = gateway;
    link.subscribed("dash.*", { cursor: cursor(1) });
    link.push(message("dash.a", 2, 2));
    await turn();
    link.subscribed("dash.*", { cursor: cursor(2), replayed: 2 });
    link.push(message("dash.b", 1, 1), message("dash.a", 2, 2));
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(1) });
    link.subscribed("dash.*", { cursor: cursor(2), replayed: 1 });
    link.push(message("dash.a", 2, 2));
    assert.deepEqual([present, table], [[2], [1, 2]]);
  });

  test("a guest that comes by the answer of another node has nothing of that answer", async () => {
    const subscription = await live(client.pattern("dash.*").subscribe());
    const present = heard(subscription);
    const { link: old } = gateway;
    old.push({ type: "going_away", reconnect_in_ms: 0 });
    await clock.pass(0);
    const { link } = gateway;
    link.connected();
    const table: unknown[] = [];
    subscription.on("gap", () => client.pattern("dash.*").subscribe(({ data }) => table.push(data), { from: "last" }), {
      once: true,
    });
    link.subscribed("dash.*", { cursor: cursor(7), recovered: false, reason: "history_trimmed", replayed: 1 });
    link.push(message("dash.a", 7, 7));
    await turn();
    assert.equal(link.asked("dash.*").from, "last");
    link.subscribed("dash.*", { cursor: cursor(7), replayed: 2 });
    link.push(message("dash.b", 6, 6), message("dash.a", 7, 7));
    await turn();
    assert.deepEqual(link.asked("dash.*").from, { cursor: cursor(1) });
    link.subscribed("dash.*", { cursor: cursor(7), recovered: false, reason: "history_trimmed", replayed: 2 });
    link.push(message("dash.b", 6, 6), message("dash.a", 7, 7));
    assert.deepEqual([present, table], [[6, 7], [6, 7]]);
  });

  test("where nothing is kept there is nothing to begin with", async () => {
    client.topic("chat.1").subscribe(() => {});
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("chat.1");
    const late = client.topic("chat.1").subscribe({ from: "last" });
    assert.deepEqual(await late.ready, { recovered: false, replayed: 0, reason: "history_trimmed" });
    await turn();
    assert.equal(gateway.link.all("subscribe").length, 1);
  });
});

describe("a pause", () => {
  test("alone: it unsubscribes, and resumes by its cursor", async () => {
    const subscription = await live();
    const messages = heard(subscription);
    subscription.pause();
    await turn();
    assert.equal(subscription.state, "paused");
    assert.equal(gateway.link.the("unsubscribe").topic, "dash.a");
    subscription.resume();
    await turn();
    assert.deepEqual(gateway.link.asked("dash.a").from, { cursor: cursor(1) });
    gateway.link.subscribed("dash.a", { cursor: cursor(2), replayed: 1 });
    gateway.link.push(message("dash.a", "missed", 2));
    assert.deepEqual(messages, ["missed"]);
    assert.equal(subscription.state, "live");
  });

  test("beside others: they go on, and it resumes where it was", async () => {
    const paused = await live();
    const going = client.topic("dash.a").subscribe();
    const [first, second] = [heard(paused), heard(going)];
    paused.pause();
    const { link } = gateway;
    link.push(message("dash.a", 2, 2), message("dash.a", 3, 3));
    paused.resume();
    await turn();
    assert.deepEqual(link.asked("dash.a").from, { cursor: cursor(1) });
    link.subscribed("dash.a", { cursor: cursor(4), replayed: 3 });
    link.push(message("dash.a", 2, 2), message("dash.a", 3, 3), message("dash.a", 4, 4));
    await turn();
    assert.deepEqual(link.asked("dash.a").from, { cursor: cursor(3) });
    link.subscribed("dash.a", { cursor: cursor(4), replayed: 1 });
    link.push(message("dash.a", 4, 4), message("dash.a", 5, 5));
    assert.deepEqual(first, [2, 3, 4, 5]);
    assert.deepEqual(second, [2, 3, 4, 5]);
  });

  test("where nothing is kept, what it missed is a gap", async () => {
    const subscription = client.topic("chat.1").subscribe();
    const lost = gaps(subscription);
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("chat.1");
    subscription.pause();
    await turn();
    subscription.resume();
    await turn();
    gateway.link.subscribed("chat.1");
    assert.deepEqual(
      lost.map(({ reason }) => reason),
      ["connection_lost"],
    );
  });
});

describe("an end", () => {
  test("by a signal", async () => {
    const stop = new AbortController();
    const subscription = await live(client.topic("dash.a").subscribe(() => {}, { signal: stop.signal }));
    stop.abort();
    assert.equal(subscription.state, "ended");
    assert.equal(client.topic("dash.a").subscribe({ signal: stop.signal }).state, "ended");
  });

  test("by a refusal", async () => {
    const subscription = client.topic("dash.a").subscribe();
    const errors: string[] = [];
    subscription.on("error", ({ code }) => errors.push(code));
    await turn();
    gateway.link.connected();
    gateway.link.error(gateway.link.asked("dash.a").id, "forbidden", { topic: "dash.a" });
    await assert.rejects(subscription.ready, { code: "forbidden" });
    assert.deepEqual([subscription.state, errors], ["ended", ["forbidden"]]);
  });

  test("not by a refusal for now: it is asked for again", async () => {
    const subscription = client.topic("dash.a").subscribe();
    await turn();
    gateway.link.connected();
    gateway.link.error(gateway.link.asked("dash.a").id, "rate_limited", {
      topic: "dash.a",
      retryable: true,
      retry_after_ms: 700,
    });
    assert.equal(subscription.state, "pending");
    await clock.pass(699);
    assert.equal(gateway.link.all("subscribe").length, 1);
    await clock.pass(1);
    assert.equal(gateway.link.all("subscribe").length, 2);
  });

  test("by a token that no longer covers it", async () => {
    const subscription = await live();
    gateway.link.push({ type: "unsubscribed", topic: "dash.a", code: "forbidden" });
    assert.equal(subscription.state, "ended");
  });

  test("by the end of the client; later ones begin ended", async () => {
    const subscription = await live();
    await client.close();
    assert.equal(subscription.state, "ended");
    await assert.rejects(client.topic("dash.a").subscribe().ready, { code: "closed" });
    await assert.rejects(client.topic("dash.a").publish(1), { code: "closed" });
  });
});

test("`validate` gives the type, and names what is not valid", async () => {
  const subscription = client.topic("dash.a").subscribe({
    validate: (data) => {
      if (typeof data !== "number") throw new TypeError("no number");
      return data * 2;
    },
  });
  const errors: unknown[] = [];
  subscription.on("error", (error) => errors.push([error.code, (error.cause as Error).message]));
  const messages = heard(await live(subscription));
  gateway.link.push(message("dash.a", 1, 2), message("dash.a", "x", 3));
  assert.deepEqual(messages, [2]);
  assert.deepEqual(errors, [["invalid_data", "no number"]]);
});

test("a listener that throws stops nobody else", async () => {
  const uncaught: unknown[] = [];
  const listeners = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.once("uncaughtException", (error) => uncaught.push(error.message));
  const subscription = await live(
    client.topic("dash.a").subscribe(() => {
      throw new Error("mine");
    }),
  );
  const messages = heard(subscription);
  gateway.link.push(message("dash.a", 1, 2));
  await turn();
  for (const listener of listeners) process.on("uncaughtException", listener);
  assert.deepEqual([messages, uncaught], [[1], ["mine"]]);
});

test("listeners stop by what `on` returns, by a signal, or after once", async () => {
  const subscription = await live();
  const stop = new AbortController();
  let calls = 0;
  const listener = (_: Publication): void => void (calls += 1);
  const off = subscription.on("message", listener);
  subscription.on("message", listener, { signal: stop.signal });
  subscription.on("message", listener, { once: true });
  gateway.link.push(message("dash.a", 1, 2));
  assert.equal(calls, 3);
  gateway.link.push(message("dash.a", 1, 3));
  assert.equal(calls, 5);
  off();
  stop.abort();
  gateway.link.push(message("dash.a", 1, 4));
  assert.equal(calls, 5);
});

test("`cursors` remember how far a subscription without a `from` has come", async () => {
  const places = new Map<string, Cursor>([["dash.a", cursor(1) as Cursor]]);
  const cursors: CursorStore = {
    get: (pattern) => places.get(pattern),
    set: (pattern, cursor) => void places.set(pattern, cursor),
  };
  client = createClient({ url: "https://example.com", transports: [gateway.transport], cursors });
  client.topic("dash.a").subscribe(() => {});
  client.topic("dash.b").subscribe(() => {}, { from: "last" });
  await turn();
  gateway.link.connected();
  assert.deepEqual(gateway.link.asked("dash.a").from, { cursor: cursor(1) });
  assert.deepEqual(gateway.link.asked("dash.b").from, "last");
  gateway.link.subscribed("dash.a", { cursor: cursor(1) });
  gateway.link.subscribed("dash.b", { cursor: cursor(1) });
  gateway.link.push(message("dash.a", "x", 5), message("dash.b", "x", 6));
  await client.close();
  assert.deepEqual([...places], [["dash.a", cursor(5)]]);
});

test("a page of history", async () => {
  await live();
  const page = client.topic("dash.a").history({ from: cursor(3) as Cursor, limit: 2 });
  const { id, ...command } = gateway.link.the("history");
  assert.deepEqual(command, { type: "history", topic: "dash.a", from: { cursor: cursor(3) }, limit: 2 });
  gateway.link.push({ type: "history", id, topic: "dash.a", items: [message("dash.a", 1, 4)], next: cursor(4) });
  const { items, next } = await page;
  assert.deepEqual([items.map(({ data, replayed }) => [data, replayed]), next], [[[1, true]], cursor(4)]);
});

test("a gap before it is ready makes it not recovered", async () => {
  const subscription = client.topic("dash.a").subscribe({ from: { last: 9 } });
  await turn();
  gateway.link.connected();
  gateway.link.subscribed("dash.a", { cursor: cursor(1), replayed: 0, more: true });
  gateway.link.push(gap("dash.a", "history_trimmed"), {
    type: "replay",
    topic: "dash.a",
    replayed: 0,
    more: false,
  });
  assert.deepEqual(await subscription.ready, { recovered: false, replayed: 0, reason: "history_trimmed" });
});

test("the first transport that works is taken, and the next after one that cannot begin", async () => {
  const [none, first, second] = [
    new FakeGateway("none", false),
    new FakeGateway("first"),
    new FakeGateway("second"),
  ];
  client = createClient({
    url: "https://example.com",
    transports: [none.transport, first.transport, second.transport],
  });
  client.connect().catch(() => {});
  await turn();
  assert.equal(none.links.length, 0);
  first.link.end();
  await clock.pass(1_000);
  second.link.connected();
  assert.equal(client.connection?.transport, "second");
  second.link.end();
  await clock.pass(5_000);
  assert.equal(first.links.length, 2, "it begins with the first again");
});

test("what can never be dialled is the end, in words", async () => {
  client = createClient({ url: "https://example.com", transports: [new FakeGateway("none", false).transport] });
  await assert.rejects(client.connect(), { code: "not_supported", message: /no usable transport/ });
  client = createClient({ transports: [gateway.transport] });
  await assert.rejects(client.connect(), { code: "not_supported" });
});
