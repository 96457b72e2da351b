// A history that loses its end and uses Offsets again, under the same epoch: what comes then is new, whatever its
// Offset; and nobody is left behind his old place without a word.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { Frame } from "../src/codec.ts";
import { createClient } from "../src/index.ts";
import type { Client, Cursor, CursorStore, Gap, Subscription } from "../src/index.ts";
import { clock, FakeGateway, gap, message, turn } from "./gateway.ts";
import type { FakeLink } from "./gateway.ts";

const EPOCH = "epoch_changed";

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

/** A place in the history as it was, or as it was written anew. */
function at(offset: number, check = "aaaa"): string {
  return `k3f7qa-${offset.toString(16)}${check && `-${check}`}`;
}

/** What was stored there. Its `data` says so. */
function stored(offset: number, check?: string, topic = "dash.a"): Frame {
  return { ...message(topic, at(offset, check)), cursor: at(offset, check) };
}

function position(offset: number, check?: string): Frame {
  return { type: "position", namespace: "dash", cursor: at(offset, check) };
}

/** What it hands on and tells, in order. */
function hear(subscription: Subscription): string[] {
  const all: string[] = [];
  subscription.on("message", ({ data }) => all.push(String(data)));
  subscription.on("gap", ({ reason, resumed }: Gap) => all.push(resumed ? `${reason}, resumed` : reason));
  return all;
}

/** Of `dash.a`, live at offset 8. */
async function live(): Promise<{ subscription: Subscription; heard: string[]; link: FakeLink }> {
  const subscription = client.topic("dash.a").subscribe();
  const heard = hear(subscription);
  await turn();
  const { link } = gateway;
  link.connected();
  link.subscribed("dash.a", { cursor: at(8) });
  return { subscription, heard, link };
}

async function reconnect(link: FakeLink): Promise<FakeLink> {
  link.end(1012, { code: "draining", retry: true, ms: 0 });
  await clock.pass(0);
  gateway.link.connected();
  return gateway.link;
}

/** It has been dialled, and asks as it would have it; nobody has answered. */
async function move(link: FakeLink): Promise<FakeLink> {
  link.push({ type: "going_away", reconnect_in_ms: 0 });
  await clock.pass(0);
  assert.notEqual(gateway.link, link);
  return gateway.link;
}

/** Answers until nothing is asked any more: the history stands at offset 8, where it was written anew. */
async function settle(link: FakeLink): Promise<void> {
  const [place, foreign] = [at(8, "bbbb"), { recovered: false, reason: EPOCH }];
  let answered = 0;
  for (await turn(); answered < link.all("subscribe").length; await turn()) {
    answered = link.all("subscribe").length;
    assert.ok(answered < 10, "it comes to an end");
    const from = JSON.stringify(link.asked("dash.a").from);
    if (from.includes(at(8))) link.subscribed("dash.a", { cursor: place, ...foreign });
    else if (from.includes(place)) link.subscribed("dash.a", { cursor: place });
    else {
      link.subscribed("dash.a", { cursor: place, replayed: 1 });
      link.push(stored(8, "bbbb"));
    }
  }
}

describe("behind `epoch_changed`", () => {
  test("told by a gap: whatever comes next is the place", async () => {
    const { subscription, heard, link } = await live();
    link.push(gap("dash.a", EPOCH));
    assert.equal(subscription.cursor, at(8), "until a new one comes");
    link.push(stored(3, "bbbb"), stored(3, "bbbb"), stored(2, "bbbb"), stored(4, "bbbb"));
    assert.deepEqual(heard, [EPOCH, at(3, "bbbb"), at(4, "bbbb")]);
    assert.equal(subscription.cursor, at(4, "bbbb"));
    const next = await reconnect(link);
    assert.deepEqual(next.asked("dash.a").from, { cursor: at(4, "bbbb") });
  });

  test("told by the answer: its cursor is the place", async () => {
    const { subscription, heard, link } = await live();
    const next = await reconnect(link);
    next.subscribed("dash.a", { cursor: at(3, "bbbb"), recovered: false, reason: EPOCH });
    assert.equal(subscription.cursor, at(3, "bbbb"));
    next.push(stored(4, "bbbb"), stored(8, "bbbb"));
    assert.deepEqual(heard, [`${EPOCH}, resumed`, at(4, "bbbb"), at(8, "bbbb")]);
  });

  test("a position is one, too", async () => {
    const { subscription, heard, link } = await live();
    link.push(gap("dash.a", EPOCH), position(3, "bbbb"));
    assert.equal(subscription.cursor, at(3, "bbbb"));
    link.push(position(2, "bbbb"), stored(4, "bbbb"));
    assert.deepEqual(heard, [EPOCH, at(4, "bbbb")]);
  });

  test("it goes on from the old place if nothing has come: the gateway says what became of it", async () => {
    const { subscription, link } = await live();
    link.push(gap("dash.a", EPOCH));
    const next = await reconnect(link);
    assert.deepEqual(next.asked("dash.a").from, { cursor: at(8) });
    subscription.pause();
    subscription.resume();
    await turn();
    assert.deepEqual(next.asked("dash.a").from, { cursor: at(8) });
  });

  test("`cursors` remember the old place, and then the new one", async () => {
    await client.close();
    const kept = new Map<string, Cursor>();
    const cursors: CursorStore = { get: (pattern) => kept.get(pattern), set: (pattern, cursor) => kept.set(pattern, cursor) };
    client = createClient({ url: "https://example.com", transports: [gateway.transport], cursors });
    const { link } = await live();
    link.push(gap("dash.a", EPOCH));
    const other = client.topic("dash.b").subscribe();
    await other.unsubscribe();
    assert.equal(kept.get("dash.a"), at(8));
    link.push(stored(3, "bbbb"));
    await client.close();
    assert.equal(kept.get("dash.a"), at(3, "bbbb"));
  });

  test("who comes just then is not put to the old place", async () => {
    const { link } = await live();
    link.push(gap("dash.a", EPOCH));
    const late = client.topic("dash.a").subscribe();
    const heard = hear(late);
    assert.deepEqual([late.state, late.cursor], ["live", undefined]);
    link.push(stored(3, "bbbb"));
    assert.deepEqual(heard, [at(3, "bbbb")]);
  });

  test("what a guest is told is not the others' trouble", async () => {
    const { subscription, heard, link } = await live();
    link.push(stored(9));
    const guest = client.topic("dash.a").subscribe({ from: at(7, "0000") as Cursor });
    const own = hear(guest);
    await turn();
    link.subscribed("dash.a", { cursor: at(9), recovered: false, reason: EPOCH });
    await turn();
    assert.deepEqual(link.asked("dash.a").from, { cursor: at(9) });
    link.subscribed("dash.a", { cursor: at(9) });
    link.push(stored(9), stored(10));
    assert.deepEqual([subscription.state, guest.state], ["live", "live"]);
    assert.deepEqual(heard, [at(9), at(10)]);
    assert.deepEqual(own, [EPOCH, at(10)]);
  });

  test("a map beside others reads all anew, and the others go on", async () => {
    const { heard, link } = await live();
    const map = client.topic("dash.a").live();
    await turn();
    link.subscribed("dash.a", { cursor: at(8), replayed: 1 });
    link.push(stored(8));
    await turn();
    link.subscribed("dash.a", { cursor: at(8) });
    await turn();
    assert.deepEqual([...map.snapshot().values()], [at(8)]);

    // The map hears of it, and has the Feed begin anew within the same frame.
    link.push(stored(8, "bbbb"));
    assert.deepEqual(heard, [EPOCH]);
    await settle(link);
    assert.equal(map.stale, false);
    link.push(stored(9, "bbbb"));
    assert.deepEqual(heard, [EPOCH, `${EPOCH}, resumed`, at(9, "bbbb")]);
    assert.deepEqual([...map.snapshot().values()], [at(9, "bbbb")]);
  });
});

describe("another check at the same offset", () => {
  test("is another publication: first the gap, then it", async () => {
    const { subscription, heard, link } = await live();
    link.push(stored(8, "bbbb"), stored(8, "bbbb"), stored(9, "bbbb"));
    assert.deepEqual(heard, [EPOCH, at(8, "bbbb"), at(9, "bbbb")]);
    assert.equal(subscription.cursor, at(9, "bbbb"));
  });

  test("is another place, as a position says it", async () => {
    const { subscription, heard, link } = await live();
    link.push(position(8, "bbbb"));
    assert.deepEqual(heard, [EPOCH]);
    assert.equal(subscription.cursor, at(8, "bbbb"));
  });

  test("shows on the other node, within what that replays", async () => {
    const { heard, link } = await live();
    link.push(stored(9));
    const next = await reconnect(link);
    next.subscribed("dash.a", { cursor: at(10, "bbbb"), replayed: 2 });
    next.push(stored(9, "bbbb"), stored(10, "bbbb"));
    assert.deepEqual(heard, [at(9), `${EPOCH}, resumed`, at(9, "bbbb"), at(10, "bbbb")]);
  });

  test("where either has none, nothing can be said", async () => {
    const { heard, link } = await live();
    link.push(stored(8, ""), stored(9, ""), stored(9), stored(8, "bbbb"), stored(16, ""), stored(17), stored(1, ""));
    assert.deepEqual(heard, [at(9, ""), at(16, ""), at(17)]);
  });

  test("is seen by who is ahead of the others, too", async () => {
    const { heard, link } = await live();
    const guest = client.topic("dash.a").subscribe({ from: "last" });
    const own = hear(guest);
    await turn();
    link.subscribed("dash.a", { cursor: at(9), replayed: 1 });
    link.push(stored(9));
    await turn();
    assert.deepEqual(link.asked("dash.a").from, { cursor: at(8) });
    link.subscribed("dash.a", { cursor: at(10, "bbbb"), replayed: 2 });
    link.push(stored(9, "bbbb"), stored(10, "bbbb"));
    assert.deepEqual(heard, [at(9, "bbbb"), at(10, "bbbb")]);
    assert.deepEqual(own, [at(9), `${EPOCH}, resumed`, at(9, "bbbb"), at(10, "bbbb")]);
  });
});

describe("while it moves", () => {
  test("the old node tells, and brings what is new before the other answers: nothing comes twice", async () => {
    const { heard, link: old } = await live();
    const next = await move(old);
    assert.deepEqual(next.asked("dash.a").from, { cursor: at(8) });
    const first = next.asked("dash.a").id;
    old.push(gap("dash.a", EPOCH), stored(3, "bbbb"), stored(4, "bbbb"));
    await turn();
    assert.deepEqual(next.asked("dash.a").from, { cursor: at(4, "bbbb") }, "asked again, from the new place");

    next.connected();
    next.push({ type: "subscribed", id: first, topic: "dash.a", cursor: at(2, "bbbb"), recovered: false, reason: EPOCH, replayed: 0, more: false });
    next.push(stored(3, "bbbb"), stored(4, "bbbb"));
    next.push({ type: "unsubscribed", id: next.the("unsubscribe").id, topic: "dash.a" });
    old.push(stored(5, "bbbb"));
    next.subscribed("dash.a", { cursor: at(6, "bbbb"), replayed: 2 });
    next.push(stored(5, "bbbb"), stored(6, "bbbb"));
    old.push(stored(6, "bbbb"), stored(7, "bbbb"));
    next.push(stored(7, "bbbb"));
    assert.deepEqual(heard, [EPOCH, ...[3, 4, 5, 6, 7].map((offset) => at(offset, "bbbb"))]);
  });

  test("both tell before either brings anything: who comes first goes on alone until the other has begun anew", async () => {
    const { heard, link: old } = await live();
    const next = await move(old);
    old.push(gap("dash.a", EPOCH));
    next.connected();
    next.subscribed("dash.a", { cursor: at(2, "bbbb"), recovered: false, reason: EPOCH });
    old.push(stored(3, "bbbb"));
    next.push(stored(3, "bbbb"), stored(4, "bbbb"));
    old.push(stored(4, "bbbb"));
    assert.deepEqual(heard, [EPOCH, `${EPOCH}, resumed`, at(3, "bbbb"), at(4, "bbbb")]);
    await clock.pass(1_000);
    assert.equal(old.closed, true);
    assert.equal(next.all("subscribe").length, 1);
  });

  test("the new node tells, and the old one knows nothing yet: what that brings is not heard any more", async () => {
    const { subscription, heard, link: old } = await live();
    const next = await move(old);
    next.connected();
    old.push(stored(9));
    next.subscribed("dash.a", { cursor: at(3, "bbbb"), recovered: false, reason: EPOCH });
    assert.equal(old.the("unsubscribe").topic, "dash.a");
    old.push(stored(10), position(12), stored(13));
    next.push(stored(4, "bbbb"), stored(5, "bbbb"));
    assert.deepEqual(heard, [at(9), `${EPOCH}, resumed`, at(4, "bbbb"), at(5, "bbbb")]);
    assert.deepEqual([subscription.state, subscription.cursor], ["live", at(5, "bbbb")]);
  });

  test("the new node's place is another one: who reads all anew by that is served first", async () => {
    const { heard, link: old } = await live();
    const map = client.topic("dash.a").live();
    await turn();
    old.subscribed("dash.a", { cursor: at(8), replayed: 1 });
    old.push(stored(8));
    await turn();
    old.subscribed("dash.a", { cursor: at(8) });
    await turn();
    const next = await move(old);
    next.connected();
    next.subscribed("dash.a", { cursor: at(8, "bbbb") });
    await turn();
    assert.deepEqual([next.asked("dash.a").from, map.stale], ["last", true]);
    await settle(next);
    next.push(stored(9, "bbbb"));
    assert.deepEqual(heard, [EPOCH, `${EPOCH}, resumed`, at(9, "bbbb")]);
    assert.deepEqual([map.stale, ...map.snapshot().values()], [false, at(9, "bbbb")]);
  });

  test("the old node tells while the new one is live and knows nothing yet: there it begins anew", async () => {
    const { subscription, heard, link: old } = await live();
    const next = await move(old);
    next.connected();
    next.subscribed("dash.a", { cursor: at(8) });
    old.push(gap("dash.a", EPOCH), stored(3, "bbbb"));
    next.push(stored(9));
    await turn();
    assert.deepEqual(next.asked("dash.a").from, { cursor: at(3, "bbbb") });
    await clock.pass(1_000);
    assert.equal(old.closed, true);
    next.subscribed("dash.a", { cursor: at(4, "bbbb"), replayed: 1 });
    next.push(stored(4, "bbbb"), stored(5, "bbbb"));
    assert.deepEqual(heard, [EPOCH, at(3, "bbbb"), at(4, "bbbb"), at(5, "bbbb")]);
    assert.equal(subscription.state, "live");
  });
});
