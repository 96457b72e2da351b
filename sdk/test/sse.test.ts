// The fallback Transport, on a `fetch` that answers as it is told.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import type { Close } from "../src/close.ts";
import type { Command, Frame, Push, WireFrom } from "../src/codec.ts";
import { sse } from "../src/sse.ts";
import type { Link } from "../src/transport.ts";
import { clock, cursor, gap, message, turn } from "./gateway.ts";
import { FakeHttp } from "./http.ts";

let http: FakeHttp;

beforeEach(() => {
  clock.stop();
  http = new FakeHttp();
});

afterEach(() => {
  http.stop();
  clock.start();
});

/** The one Link of a test, as its Session sees it. */
class Listening {
  readonly link: Link;
  frames: Frame[] = [];
  close: Close | undefined;
  #id = 1;

  constructor(token?: string) {
    this.link = sse().open(new URL("https://example.com/base"), {
      frame: (frame) => void this.frames.push(frame),
      ended: (close) => void (this.close = close),
    });
    this.link.send({ type: "connect", id: 1, token, client: "test", heartbeat: "message" });
  }

  send(command: Unnumbered<Command>): number {
    this.#id += 1;
    this.link.send({ ...command, id: this.#id } as Command);
    return this.#id;
  }

  async subscribe(topics: Record<string, WireFrom>): Promise<number> {
    const entries = Object.entries(topics).map(([topic, from]) => ({ topic, from }));
    const id = this.send({ type: "subscribe", topics: entries });
    await turn();
    return id;
  }

  /** What has come since this was asked last, in few words. */
  news(): string[] {
    const frames = this.frames;
    this.frames = [];
    return frames.flatMap(shortly);
  }

  get reason(): unknown {
    return this.close && JSON.parse(this.close.reason);
  }
}

type Unnumbered<C> = C extends { id: number } ? Omit<C, "id"> : never;

function shortly(frame: Frame): string[] {
  switch (frame.type) {
    case "connected":
    case "ping":
      return [];
    case "message":
      return [`${frame.topic} ${"data" in frame ? frame.data : "deleted"}`];
    case "subscribed": {
      const { topic, recovered, reason, replayed, more, cursor } = frame;
      const how = `${recovered ? "recovered" : reason} ${replayed}${more ? "+" : ""}`;
      return [`subscribed ${topic} ${how}${cursor === undefined ? "" : ` ${cursor.split("-")[1]}`}`];
    }
    case "replay":
      return [`replay ${frame.topic} ${frame.replayed}${frame.more ? "+" : ""}`];
    case "error":
      return [`error ${frame.id} ${frame.topic ?? ""} ${frame.code}`];
    case "gap":
      return [`gap ${frame.topic} ${frame.reason}`];
    case "position":
      return [`position ${frame.namespace} ${frame.cursor.split("-")[1]}`];
    default:
      return [JSON.stringify(frame)];
  }
}

function position(namespace: string, offset: number, epoch?: string): Push {
  return { type: "position", namespace, cursor: cursor(offset, epoch) };
}

const NEVER = { since: "9999-12-31T00:00:00Z" };

test("the Token is in a header, and in no address", async () => {
  const listening = new Listening("secret");
  await listening.subscribe({ "dash.>": "last" });
  const { url, headers } = http.stream;
  assert.equal(url.href, "https://example.com/base/v1/events?topic=dash.%3E&from=last");
  assert.equal(headers.get("authorization"), "Bearer secret");
  assert.equal(headers.get("accept"), "text/event-stream");
});

test("what is kept is subscribed by its first message, and live at its place", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "last", "dash.eu": "last" });
  await http.stream.begin(message("dash.us", 1, 3), message("dash.eu", 2, 5));
  const connected = listening.frames[0];
  assert(connected?.type === "connected" && connected.id === 1);
  assert.deepEqual(listening.news(), [
    "subscribed dash.> recovered 1+ 3",
    "dash.us 1",
    "dash.us 1", // For who is live: nobody yet.
    "replay dash.> 1+",
    "dash.eu 2",
    "subscribed dash.eu recovered 1+ 5",
    "dash.eu 2",
    "dash.eu 2",
  ]);
  await http.stream.push(position("dash", 9), message("dash.eu", 3, 10));
  assert.deepEqual(listening.news(), ["replay dash.> 0", "replay dash.eu 0", "position dash 9", "dash.eu 3"]);
});

test("what is not kept is live at the gap that only says so", async () => {
  const listening = new Listening();
  await listening.subscribe({ "chat.*": "live", "dash.>": "live" });
  assert.deepEqual(http.stream.from, NEVER);
  await http.stream.begin(gap("chat.*", "history_trimmed"), position("dash", 4), message("chat.1", "hi"));
  assert.deepEqual(listening.news(), [
    "subscribed chat.* recovered 0",
    "subscribed dash.> recovered 0 4",
    "position dash 4",
    "chat.1 hi",
  ]);
});

test("changed subscriptions open another stream, once a tick, at the oldest cursor of each namespace", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": { cursor: cursor(3) }, "log.>": { cursor: cursor(7, "aaaaaa") } });
  assert.deepEqual(http.stream.from, { ...NEVER, cursors: `${cursor(3)},${cursor(7, "aaaaaa")}` });
  const old = http.stream;
  await old.begin(position("dash", 5), position("log", 8, "aaaaaa"));
  listening.news();

  void listening.subscribe({ "dash.eu": { cursor: cursor(2) } });
  void listening.subscribe({ "dash.*": "live" });
  listening.send({ type: "unsubscribe", topic: "log.>" });
  await turn();
  assert.equal(http.streams.length, 2);
  assert.deepEqual(http.stream.topics, ["dash.>", "dash.eu", "dash.*"]);
  assert.deepEqual(http.stream.from, { ...NEVER, cursors: cursor(2) });
  assert.equal(old.ended, false);
  listening.news();

  await old.push(message("dash.us", 1, 6));
  assert.deepEqual(listening.news(), ["dash.us 1"]);
  await http.stream.begin(message("dash.eu", 2, 3), position("dash", 6));
  assert.deepEqual(listening.news(), [
    "subscribed dash.eu recovered 1+ 3", // dash.* is live, and gets nothing of before.
    "dash.eu 2",
    "dash.eu 2",
    "replay dash.eu 0",
    "subscribed dash.* recovered 0 6",
    "position dash 6",
  ]);
  assert.equal(old.ended, true);
});

test("behind a gap that says that the history is another one, a lower place is the place", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.a": { cursor: cursor(8) } });
  await http.stream.begin(position("dash", 8));
  await http.stream.push(gap("dash.a", "epoch_changed"));
  await listening.subscribe({ "dash.b": "live" });
  assert.equal(http.stream.from["cursors"], cursor(8), "until something has come");
  await http.streams[0]!.push(message("dash.a", 3, 3));
  await http.stream.begin(gap("dash.a", "epoch_changed"), gap("dash.b", "epoch_changed"), position("dash", 4));
  await http.stream.push(message("dash.a", 5, 5));
  await listening.subscribe({ "dash.c": "live" });
  assert.equal(http.stream.from["cursors"], cursor(5));
});

test("of a namespace with which the new stream has caught up, the old one is not heard any more", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.a.*": { cursor: cursor(3) }, "log.>": { cursor: cursor(7, "aaaaaa") } });
  const old = http.stream;
  await old.begin(position("dash", 5), position("log", 8, "aaaaaa"));
  await listening.subscribe({ "dash.*.x": "live" });
  await http.stream.begin(position("dash", 5));
  listening.news();

  // The old one is ahead: what it says now would hide 6 from those who are only on the new one.
  await old.push(message("dash.a.x", "seven", 7), position("dash", 7), message("log.a", 9, 9, { epoch: "aaaaaa" }));
  assert.deepEqual(listening.news(), ["log.a 9"]);
  await http.stream.push(message("dash.b.x", "six", 6), message("dash.a.x", "seven", 7));
  assert.deepEqual(listening.news(), ["dash.b.x six", "dash.a.x seven"]);
});

test("what is not kept goes on over a change: the old stream is read for another second", async () => {
  const listening = new Listening();
  await listening.subscribe({ "chat.*": "live" });
  const old = http.stream;
  await old.begin(gap("chat.*", "history_trimmed"));
  await listening.subscribe({ "news.*": "live" });
  const next = http.stream;
  await old.push(message("chat.1", "one"));
  await next.begin(gap("chat.*", "history_trimmed"), gap("news.*", "history_trimmed"));
  assert.deepEqual(listening.news(), ["subscribed chat.* recovered 0", "chat.1 one", "subscribed news.* recovered 0"]);
  await old.push(message("chat.1", "late"));
  await next.push(message("chat.1", "two"));
  assert.deepEqual(listening.news(), ["chat.1 late", "chat.1 two"]);
  await listening.subscribe({ "more.*": "live" });
  assert.equal(http.streams.length, 2); // Not before the old one is gone.
  await clock.pass(1_000);
  assert.equal(old.ended, true);
  assert.equal(http.streams.length, 3);
});

test("who begins elsewhere has a stream beside it, until all has come that there was", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  const main = http.stream;
  await main.begin(position("dash", 5));
  await listening.subscribe({ "dash.eu": "last" });
  const aside = http.stream;
  assert.deepEqual([aside.topics, aside.from], [["dash.eu"], { from: "last" }]);
  listening.news();
  await aside.begin(message("dash.eu", "old", 2), position("dash", 5));
  assert.deepEqual(listening.news(), ["subscribed dash.eu recovered 1+ 2", "dash.eu old"]);
  assert.equal(http.streams.length, 3);
  assert.deepEqual([http.stream.topics, http.stream.from], [["dash.>", "dash.eu"], { ...NEVER, cursors: cursor(5) }]);

  // Each goes on until the new one has caught up.
  await main.push(message("dash.eu", "new", 6));
  await aside.push(message("dash.eu", "new", 6));
  assert.deepEqual(listening.news(), ["dash.eu new", "replay dash.eu 1+", "dash.eu new"]);
  await http.stream.begin(message("dash.eu", "new", 6), position("dash", 6));
  assert.deepEqual(listening.news(), [
    "replay dash.eu 1+",
    "dash.eu new",
    "dash.eu new",
    "replay dash.eu 0",
    "position dash 6",
  ]);
  assert.deepEqual([main.ended, aside.ended, http.stream.ended], [true, true, false]);
});

test("each from of its own has its turn, and never more than three streams are open", async () => {
  const listening = new Listening();
  const since = "2026-01-01T00:00:00Z";
  await listening.subscribe({ "dash.>": "live", "dash.a": "last", "dash.b": { last: 3 }, "dash.c": { since } });
  const froms: unknown[] = [];
  for (let at = 0; at < http.streams.length; at += 1) {
    const open = http.streams.filter(({ ended }) => !ended);
    assert(open.length <= 3);
    froms.push(http.stream.from);
    await http.stream.begin(position("dash", 5));
  }
  const again = { ...NEVER, cursors: cursor(5) };
  assert.deepEqual(froms, [NEVER, { from: "last" }, again, { last: "3" }, again, { since }, again]);
  const live = ["dash.>", "dash.a", "dash.b", "dash.c"].map((topic) => `subscribed ${topic} recovered 0 5`);
  assert.deepEqual(listening.news().filter((word) => word.startsWith("subscribed")), live);
});

test("a cursor of another history does not go on in this one", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.a": { cursor: cursor(3) }, "dash.b": { cursor: cursor(9, "bbbbbb") } });
  assert.deepEqual([http.stream.topics, http.stream.from], [["dash.a"], { ...NEVER, cursors: cursor(3) }]);
  await http.stream.begin(position("dash", 4));
  const own = cursor(9, "bbbbbb");
  assert.deepEqual([http.stream.topics, http.stream.from], [["dash.b"], { cursor: own, cursors: own }]);
  await http.stream.begin(gap("dash.b", "epoch_changed"), position("dash", 5));
  await http.stream.begin(position("dash", 5));
  assert.deepEqual(listening.news(), [
    "subscribed dash.a recovered 0 4",
    "position dash 4",
    "subscribed dash.b epoch_changed 0 5",
    "position dash 5",
  ]);
});

test("what cannot be had any more is said", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": { cursor: cursor(3) } });
  await http.stream.begin(gap("dash.>", "history_trimmed"), message("dash.a", 1, 8));
  await http.stream.push(gap("dash.>", "history_trimmed"), position("dash", 9), gap("dash.>", "bus_interrupted"));
  assert.deepEqual(listening.news(), [
    "subscribed dash.> history_trimmed 1+ 8",
    "dash.a 1",
    "dash.a 1",
    "gap dash.> history_trimmed",
    "replay dash.> 0",
    "position dash 9",
    "gap dash.> bus_interrupted",
  ]);
});

test("history asked for where nothing is kept is not recovered", async () => {
  const listening = new Listening();
  await listening.subscribe({ "chat.*": "last" });
  await http.stream.begin(gap("chat.*", "history_trimmed"));
  assert.deepEqual(listening.news(), ["subscribed chat.* history_trimmed 0"]);
});

test("whether something is kept that only was, shows when nothing else is to come", async () => {
  const listening = new Listening();
  await listening.subscribe({ "chat.*": { cursor: cursor(4) } });
  await http.stream.begin(gap("chat.*", "history_trimmed"));
  assert.deepEqual(listening.news(), []);
  await http.stream.write(":\n\n");
  assert.deepEqual(listening.news(), ["subscribed chat.* history_trimmed 0"]);
});

test("without subscriptions there is no stream, and none is missed", async () => {
  const listening = new Listening("secret");
  await turn();
  assert.deepEqual([http.call.url.pathname, http.call.body], ["/base/v1/publish", { messages: [] }]);
  assert.equal(listening.frames.length, 0);
  await http.call.answer(200, { results: [] });
  assert.equal(listening.frames[0]?.type, "connected");
  await clock.pass(3_600_000);
  assert.deepEqual([http.asked.length, listening.close], [1, undefined]);
});

test("the last unsubscribe ends the stream", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin(position("dash", 5));
  listening.news();
  listening.send({ type: "unsubscribe", topic: "dash.>" });
  await turn();
  assert.deepEqual(listening.news(), ['{"type":"unsubscribed","id":3,"topic":"dash.>"}']);
  assert.deepEqual([http.stream.ended, http.streams.length], [true, 1]);
});

test("a publish goes by HTTP, with its key, and the next one after its answer", async () => {
  const listening = new Listening("secret");
  const first = listening.send({ type: "publish", topic: "chat.1", data: { n: 1 }, key: "k" });
  const second = listening.send({ type: "publish", topic: "chat.1", deleted: true });
  await turn();
  assert.deepEqual(http.call.body, { messages: [{ topic: "chat.1", data: { n: 1 }, key: "k" }] });
  assert.equal(http.call.headers.get("authorization"), "Bearer secret");
  const about = { id: "m1", topic: "chat.1", cursor: cursor(3), stored: true, duplicate: false };
  await http.call.answer(200, { results: [about] });
  assert.deepEqual(listening.frames.at(-1), { ...about, type: "published", id: first, message_id: "m1" });
  assert.deepEqual(http.call.body, { messages: [{ topic: "chat.1", deleted: true }] });
  await http.call.answer(200, { results: [{ topic: "chat.1", code: "forbidden", message: "no", retryable: false }] });
  assert.deepEqual(listening.news().at(-1), `error ${second} chat.1 forbidden`);
});

test("a publish without an answer of the gateway ends the link, whose client then asks again", async () => {
  const silent = (): Promise<void> => clock.pass(10_000);
  for (const break_ of [() => http.call.fail(), () => http.call.answer(502, "<html>"), silent]) {
    const listening = new Listening();
    listening.send({ type: "publish", topic: "chat.1", data: 1 });
    await turn();
    await break_();
    await turn();
    assert.deepEqual(listening.reason, { code: "connection_lost", retry: true });
  }
});

test("history goes by HTTP", async () => {
  const listening = new Listening();
  await turn();
  const id = listening.send({ type: "history", topic: "dash.eu", from: { cursor: cursor(2) }, limit: 10 });
  await turn();
  assert.equal(http.call.url.href, `https://example.com/base/v1/topics/dash.eu/messages?cursor=${cursor(2)}&limit=10`);
  const page = { topic: "dash.eu", items: [message("dash.eu", 1, 3)], next: cursor(3) };
  await http.call.answer(200, page);
  assert.deepEqual(listening.frames.at(-1), { type: "history", id, ...page });
  const other = listening.send({ type: "history", topic: "chat.1" });
  await turn();
  await http.call.refuse(501, "not_supported");
  assert.deepEqual(listening.news().at(-1), `error ${other}  not_supported`);
});

test("a ping is a publish of nothing", async () => {
  const listening = new Listening();
  const id = listening.send({ type: "ping" });
  await turn();
  assert.deepEqual(http.call.body, { messages: [] });
  await http.asked[0]?.answer(200, { results: [] });
  assert.deepEqual(listening.frames, [{ type: "pong", id }]);
});

test("another Token opens another stream, and what was there goes on until that has caught up", async () => {
  const listening = new Listening(token({ exp: 2_000_000_000 }));
  await listening.subscribe({ "dash.>": "live" });
  const old = http.stream;
  await old.begin(position("dash", 5));
  const connected = listening.frames[0];
  assert(connected?.type === "connected");
  assert.equal(connected.expires_at, "2026-11-23T10:00:00.123Z"); // A day is the most.
  listening.news();
  const renewed = token({ exp: Date.now() / 1_000 + 60 });
  const id = listening.send({ type: "token", token: renewed });
  await old.push(message("dash.a", 0, 6)); // Says nothing of the new one.
  assert.equal(http.stream.headers.get("authorization"), `Bearer ${renewed}`);
  assert.deepEqual(http.stream.from, { ...NEVER, cursors: cursor(5) });
  await old.push(message("dash.a", 1, 7));
  await http.stream.begin(message("dash.a", 1, 7), position("dash", 7));
  assert.equal(old.ended, true);
  assert.deepEqual(listening.news(), [
    "dash.a 0",
    "dash.a 1",
    `{"type":"token","id":${id},"expires_at":"2026-11-22T10:01:00.123Z"}`,
    "dash.a 1",
    "position dash 7",
  ]);
});

test("a Token that is refused leaves the one before", async () => {
  const listening = new Listening("good");
  await listening.subscribe({ "dash.>": "live" });
  const old = http.stream;
  await old.begin(position("dash", 5));
  listening.news();
  const id = listening.send({ type: "token", token: "bad" });
  await turn();
  await http.stream.refuse(401, "unauthenticated");
  assert.deepEqual(listening.news(), [`error ${id}  unauthenticated`]);
  await listening.subscribe({ "log.>": "live" });
  assert.equal(http.stream.headers.get("authorization"), "Bearer good");
  assert.equal(old.ended, false);
});

test("a Token that covers less ends the link, so that all begins anew", async () => {
  const listening = new Listening("good");
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin(position("dash", 5));
  listening.send({ type: "token", token: "less" });
  await turn();
  await http.stream.refuse(403, "forbidden");
  assert.deepEqual(listening.reason, { code: "connection_lost", retry: true });
});

test("without a stream, a Token is tried by a publish of nothing", async () => {
  const listening = new Listening("old");
  await turn();
  await http.call.answer(200, { results: [] });
  const id = listening.send({ type: "token", token: "new" });
  await turn();
  assert.equal(http.call.headers.get("authorization"), "Bearer new");
  await http.call.answer(200, { results: [] });
  assert.deepEqual(listening.news(), [`{"type":"token","id":${id}}`]);
});

test("a Token that is refused at first ends the link", async () => {
  const listening = new Listening("bad");
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.refuse(401, "token_expired");
  assert.deepEqual(listening.reason, { code: "token_expired", retry: false });
  assert.deepEqual(listening.frames, []);
});

test("of many patterns, only those are refused that are why", async () => {
  const listening = new Listening();
  const patterns = ["dash.a", "dash.b", "admin.>", "dash.c", "dash.d"];
  const id = await listening.subscribe(Object.fromEntries(patterns.map((pattern) => [pattern, "live"])));
  const tried: string[][] = [];
  for (let at = 0; at < http.streams.length; at += 1) {
    const { stream } = http;
    tried.push(stream.topics);
    if (stream.topics.includes("admin.>")) await stream.refuse(403, "forbidden");
    else await stream.begin(position("dash", 5));
  }
  assert.deepEqual(tried, [
    patterns,
    ["dash.a", "dash.b"],
    patterns,
    ["dash.a", "dash.b", "admin.>"],
    ["dash.a", "dash.b", "dash.c", "dash.d"],
  ]);
  const news = listening.news();
  assert(news.includes(`error ${id} admin.> forbidden`));
  for (const topic of patterns.filter((pattern) => pattern !== "admin.>")) {
    assert(news.includes(`subscribed ${topic} recovered 0 5`));
  }
  assert.equal(listening.close, undefined);
});

test("where all is refused, it is asked whether the gateway takes anything from here", async () => {
  const listening = new Listening();
  const id = await listening.subscribe({ "dash.>": "live" });
  await http.stream.refuse(401, "unauthenticated");
  assert.deepEqual(listening.news(), [`error ${id} dash.> unauthenticated`]);
  await http.call.refuse(401, "unauthenticated");
  assert.deepEqual(listening.reason, { code: "unauthenticated", retry: false });
});

test("what is taken but cannot be taken in is refused", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  const main = http.stream;
  await main.begin(position("dash", 5));
  const id = await listening.subscribe({ "log.a": "last", "log.b": "last" });
  const aside = http.stream;
  await aside.begin(message("log.a", 1, 3), position("log", 3));
  listening.news();
  await http.stream.refuse(422, "too_many_subscriptions");
  assert.deepEqual(listening.news(), [
    '{"type":"unsubscribed","topic":"log.a","code":"too_many_subscriptions"}',
    `error ${id} log.b too_many_subscriptions`,
  ]);
  assert.deepEqual([main.ended, aside.ended], [false, true]);
});

test("an address that is too long is too many subscriptions", async () => {
  const listening = new Listening();
  const id = await listening.subscribe({ "dash.>": "live" });
  await http.stream.answer(414, "");
  assert.deepEqual(listening.news(), [`error ${id} dash.> too_many_subscriptions`]);
});

test("load and drain refuse by the end, and say when to come back", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin();
  await http.stream.close("draining", true, 840);
  assert.deepEqual(listening.reason, { code: "draining", retry: true, ms: 840 });
  assert.deepEqual(listening.frames, []);
});

test("an end without a word is as long away as the gateway said at first", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin(position("dash", 5));
  await http.stream.end();
  assert.deepEqual(listening.reason, { code: "connection_lost", retry: true, ms: 3_000 });
});

test("who cannot even ask is lost, without a time", async () => {
  for (const break_ of [() => http.stream.fail(), () => http.stream.answer(502, "<html>")]) {
    const listening = new Listening();
    await listening.subscribe({ "dash.>": "live" });
    await break_();
    await turn();
    assert.deepEqual(listening.reason, { code: "connection_lost", retry: true });
  }
});

test("too many connections: back when the gateway says", async () => {
  const listening = new Listening("secret");
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.refuse(429, "connection_limit", { retryable: true, retry_after_ms: 10_000 });
  assert.deepEqual(listening.reason, { code: "connection_limit", retry: true, ms: 10_000 });
});

test("a change that cannot be for now is tried again, while what there was goes on", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  const main = http.stream;
  await main.begin(position("dash", 5));
  await listening.subscribe({ "log.>": "last" });
  await http.stream.begin(message("log.a", 1, 3));
  await http.stream.close("overloaded", true, 1_500);
  listening.news();
  await main.push(message("dash.a", 1, 6));
  assert.deepEqual(listening.news(), ["dash.a 1"]);
  assert.equal(http.streams.length, 2);
  await clock.pass(1_500);
  assert.deepEqual(http.stream.topics, ["dash.>", "log.>"]);
  assert.deepEqual(http.stream.from, { ...NEVER, cursors: `${cursor(6)},${cursor(3)}` });
  await http.stream.begin(position("dash", 6), position("log", 4));
  assert.deepEqual(listening.news(), ["position dash 6", "replay log.> 0", "position log 4"]);
});

test("comments are life; without any, a stream is lost", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin(position("dash", 5));
  for (let comments = 0; comments < 5; comments += 1) {
    await clock.pass(12_000);
    await http.stream.write(":\n\n");
  }
  await clock.pass(21_900);
  assert.equal(listening.close, undefined);
  await clock.pass(200);
  assert.deepEqual(listening.reason, { code: "connection_lost", retry: true, ms: 3_000 });
  assert.equal(http.stream.ended, true);
});

test("who has slept listens first", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin(position("dash", 5));
  await clock.sleep(60_000);
  assert.equal(listening.close, undefined);
  await http.stream.write(":\n\n");
  await clock.pass(20_000);
  assert.equal(listening.close, undefined);
});

test("a text may break anywhere, and events of unknown kinds pass", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  await http.stream.begin(position("dash", 5));
  listening.news();
  const text = JSON.stringify(message("dash.a", "größer €", 6));
  const bytes = new TextEncoder().encode(`event: other\ndata: {"type":"other"}\n\ndata: ${text}\n\n`);
  for (const byte of bytes) await http.stream.writeBytes(Uint8Array.of(byte));
  assert.deepEqual(listening.news(), ["dash.a größer €"]);
});

test("closed is closed: nothing is heard, and nothing stays open", async () => {
  const listening = new Listening();
  await listening.subscribe({ "dash.>": "live" });
  const old = http.stream;
  await old.begin(position("dash", 5));
  await listening.subscribe({ "log.>": "live" });
  listening.send({ type: "publish", topic: "chat.1", data: 1 });
  listening.link.close();
  listening.frames = [];
  listening.send({ type: "publish", topic: "chat.1", data: 2 });
  await listening.subscribe({ "more.>": "live" });
  assert.deepEqual(http.asked.map(({ ended }) => ended), [true, true]);
  assert.deepEqual([listening.frames, listening.close], [[], undefined]);
});

/** One that nobody has signed. */
function token(claims: object): string {
  return ["{}", JSON.stringify(claims), ""].map((part) => Buffer.from(part).toString("base64url")).join(".");
}
