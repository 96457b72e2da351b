// The rules by which the client lives, one after the other, against a scripted gateway and a clock that stands.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { createClient, TidegateError, Unauthorized } from "../src/index.ts";
import type { Client, ClientOptions, Gap, Subscription, TokenProvider, TokenRequest } from "../src/index.ts";
import { FakePage } from "./browser.ts";
import { clock, cursor, FakeGateway, gap, message, tombstone, turn } from "./gateway.ts";

let gateway: FakeGateway;
let client: Client;
let random = 0.5;

function connectTo(options: ClientOptions = {}): Client {
  client = createClient({ url: "https://example.com", transports: [gateway.transport], ...options });
  return client;
}

/** A client that is connected, as an application would have it. */
async function connected(options: ClientOptions = {}): Promise<Client> {
  connectTo(options);
  const connection = client.connect();
  await turn();
  gateway.link.connected();
  await connection;
  await turn();
  return client;
}

/** A provider that gives one token after the other, and what it was asked for. */
function tokens(): { asked: TokenRequest["reason"][]; token: TokenProvider } {
  const asked: TokenRequest["reason"][] = [];
  const token: TokenProvider = ({ reason }) => {
    asked.push(reason);
    return `token ${asked.length}`;
  };
  return { asked, token };
}

/** The `data` of all that a Subscription hands on. */
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

beforeEach(() => {
  clock.stop();
  gateway = new FakeGateway();
  mock.method(Math, "random", () => random);
  random = 0.5;
});

afterEach(async () => {
  await client.close();
  mock.restoreAll();
  clock.start();
});

describe("1. one socket, the token in `connect`, all subscriptions in one `subscribe`", () => {
  test("everything leaves in the first flight", async () => {
    connectTo({ token: "secret" });
    client.pattern("dash.**").subscribe(() => {}, { from: "last" });
    client.topic("chat.1").subscribe(() => {});
    await turn();

    assert.equal(gateway.links.length, 1);
    assert.equal(gateway.link.url.href, "https://example.com/");
    const [connect, subscribe] = gateway.link.sent;
    assert.deepEqual(connect, {
      type: "connect",
      id: 1,
      token: "secret",
      client: "tidegate-js/0.1.0",
      heartbeat: "message",
    });
    assert.deepEqual(subscribe, {
      type: "subscribe",
      id: 2,
      topics: [
        { topic: "dash.>", from: "last" },
        { topic: "chat.1", from: "live" },
      ],
    });
    assert.equal(gateway.link.sent.length, 2);
  });

  test("after a reconnect each goes on from its cursor", async () => {
    connectTo();
    client.pattern("dash.**").subscribe(() => {}, { from: "last" });
    client.topic("log.1").subscribe(() => {});
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.>", { cursor: cursor(7) });
    gateway.link.subscribed("log.1", { cursor: cursor(2, "bbbbbb") });
    gateway.link.push(message("log.1", "a", 3, { epoch: "bbbbbb" }));
    gateway.link.end();
    await clock.pass(500);

    assert.equal(gateway.links.length, 2);
    assert.deepEqual(gateway.link.the("subscribe").topics, [
      { topic: "dash.>", from: { cursor: cursor(7) } },
      { topic: "log.1", from: { cursor: cursor(3, "bbbbbb") } },
    ]);
    assert.equal(gateway.link.all("subscribe").length, 1);
  });

  test("two subscriptions with one pattern are one on the wire", async () => {
    connectTo();
    const first = heard(client.pattern("dash.**").subscribe());
    const second = heard(client.pattern("dash.>").subscribe());
    await turn();
    gateway.link.connected();
    assert.deepEqual(gateway.link.the("subscribe").topics, [{ topic: "dash.>", from: "live" }]);
    gateway.link.subscribed("dash.>");
    gateway.link.push(message("dash.a", 1));
    assert.deepEqual([first, second], [[1], [1]]);
  });

  test("more than 128 patterns take more than one `subscribe`, as nodes ask for", async () => {
    connectTo();
    for (let n = 0; n < 130; n += 1) client.topic(`dash.${n}`).subscribe(() => {});
    await turn();
    assert.deepEqual(
      gateway.link.all("subscribe").map(({ topics }) => topics.length),
      [128, 2],
    );
  });
});

describe("2. a told time wins; moving makes before it breaks", () => {
  test("the close reason says when to come back", async () => {
    await connected();
    gateway.link.end(1012, { code: "draining", retry: true, ms: 4_000 });
    assert.equal(client.state, "waiting");
    assert.equal(client.retryAt?.getTime(), Date.now() + 4_000);
    await clock.pass(3_999);
    assert.equal(gateway.links.length, 1);
    await clock.pass(1);
    assert.equal(gateway.links.length, 2);
  });

  test("`going_away` wins over what the close says", async () => {
    await connected();
    gateway.link.push({ type: "going_away", reconnect_in_ms: 9_000 });
    await clock.pass(1_000);
    gateway.link.end(1012, { code: "draining", retry: true, ms: 100 });
    await clock.pass(7_999);
    assert.equal(gateway.links.length, 1);
    await clock.pass(1);
    assert.equal(gateway.links.length, 2);
  });

  test("at its slot the client moves, and neither misses nor repeats anything", async () => {
    const states: string[] = [];
    connectTo();
    const kept = client.pattern("dash.**").subscribe();
    const effort = client.topic("chat.1").subscribe();
    const [dash, chat, lost] = [heard(kept), heard(effort), gaps(effort)];
    await turn();
    const old = gateway.link;
    old.connected();
    old.subscribed("dash.>", { cursor: cursor(5) });
    old.subscribed("chat.1");
    client.on("state", (state) => states.push(state));

    old.push({ type: "going_away", reconnect_in_ms: 2_000 });
    await clock.pass(1_999);
    assert.equal(gateway.links.length, 1, "nothing changes before its slot");
    old.push(message("dash.a", 6, 6));
    await clock.pass(1);

    const next = gateway.link;
    assert.notEqual(next, old);
    assert.deepEqual(next.asked("dash.>").from, { cursor: cursor(6) });
    assert.deepEqual(next.asked("chat.1").from, "live");
    old.push(message("dash.a", 7, 7), message("chat.1", "a", undefined, { id: "a" }));
    next.connected({ connection: "c2" });
    next.subscribed("dash.>", { cursor: cursor(8), replayed: 2 });
    next.push(message("dash.a", 7, 7), message("dash.a", 8, 8));
    next.subscribed("chat.1");
    old.push(message("dash.a", 8, 8), message("dash.a", 9, 9), message("chat.1", "b", undefined, { id: "b" }));
    next.push(message("chat.1", "b", undefined, { id: "b" }), message("dash.a", 9, 9), message("dash.a", 10, 10));
    assert.equal(old.closed, false, "what is on its way through the old node is still read");
    await clock.pass(1_000);

    assert.equal(old.closed, true);
    assert.deepEqual(dash, [6, 7, 8, 9, 10]);
    assert.deepEqual(chat, ["a", "b"]);
    assert.deepEqual(lost, []);
    assert.deepEqual(states, []);
    assert.equal(client.connection?.id, "c2");
  });

  test("a move that fails leaves the connection as it is", async () => {
    await connected();
    const old = gateway.link;
    old.push({ type: "going_away", reconnect_in_ms: 10 });
    await clock.pass(10);
    gateway.link.end();
    assert.equal(client.state, "connected");
    old.end(1012, { code: "draining", retry: true, ms: 50 });
    await clock.pass(50);
    assert.equal(gateway.links.length, 3);
  });
});

describe("3. else full jitter, that grows, without a last attempt", () => {
  test("the first wait is random, too, and each bound is twice the one before", async () => {
    await connected();
    gateway.link.end();
    for (const bound of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      assert.equal(client.retryAt?.getTime(), Date.now() + bound * random);
      await clock.pass(bound * random);
      gateway.link.end();
    }
    random = 0.001;
    gateway.link.end();
    assert.equal(client.state, "waiting");
  });

  test("bounds begin anew only after five seconds of connection", async () => {
    await connected();
    gateway.link.end();
    await clock.pass(250);
    gateway.link.connected();
    await clock.pass(4_999);
    gateway.link.end();
    assert.equal(client.retryAt?.getTime(), Date.now() + 500);
    await clock.pass(500);
    gateway.link.connected();
    await clock.pass(5_000);
    gateway.link.end();
    assert.equal(client.retryAt?.getTime(), Date.now() + 250);
  });

  test("`retry.maxAttempts` makes an end of it", async () => {
    await connected({ retry: { maxAttempts: 1 } });
    gateway.link.end();
    await clock.pass(250);
    gateway.link.end();
    assert.equal(client.state, "closed");
  });
});

describe("4. it comes back as the close says", () => {
  test("`retry: false` is the end, and everybody hears why", async () => {
    await connected();
    const subscription = client.topic("dash.a").subscribe();
    const reading = (async () => {
      for await (const _ of subscription);
    })();
    gateway.link.end(4403, { code: "forbidden", retry: false });
    assert.equal(client.state, "closed");
    assert.equal(subscription.state, "ended");
    await assert.rejects(reading, { name: "TidegateError", code: "forbidden" });
    await assert.rejects(client.connect(), { code: "forbidden" });
    await clock.pass(60_000);
    assert.equal(gateway.links.length, 1);
  });

  test("4401 asks once for a fresh token, and gives up if that one is refused", async () => {
    const { asked, token } = tokens();
    await connected({ token });
    gateway.link.end(4401, { code: "token_expired", retry: false });
    await turn();
    assert.equal(gateway.link.the("connect").token, "token 2");
    gateway.link.end(4401, { code: "unauthenticated", retry: false });
    await turn();
    assert.deepEqual(asked, ["connect", "rejected"]);
    assert.equal(client.state, "closed");
  });

  test("a token that is only a text cannot be renewed", async () => {
    await connected({ token: "t" });
    gateway.link.end(4401, { code: "token_expired", retry: false });
    assert.equal(client.state, "closed");
  });

  test("`Unauthorized` stops the client", async () => {
    connectTo({
      token: () => {
        throw new Unauthorized("logged out");
      },
    });
    await assert.rejects(client.connect(), { code: "unauthenticated", message: "logged out" });
    assert.equal(client.state, "closed");
    assert.equal(gateway.links.length, 0);
  });

  test("a provider that fails is asked again", async () => {
    const errors: string[] = [];
    const attempts: number[] = [];
    connectTo({
      token: ({ attempt }) => {
        attempts.push(attempt);
        if (attempt < 3) throw new Error("no network");
        return "t";
      },
    });
    client.on("error", ({ code }) => errors.push(code));
    const connection = client.connect();
    await turn();
    await clock.pass(250);
    await clock.pass(500);
    gateway.link.connected();
    await connection;
    assert.deepEqual(attempts, [1, 2, 3]);
    assert.deepEqual(errors, ["unauthenticated", "unauthenticated"]);
  });
});

describe("5. online and offline", () => {
  let page: FakePage;
  beforeEach(() => (page = new FakePage()));
  afterEach(() => page.leave());

  test("`online` dials now", async () => {
    await connected();
    gateway.link.end();
    page.tell("offline");
    assert.equal(client.state, "offline");
    page.tell("online");
    await turn();
    assert.equal(client.state, "connecting");
    assert.equal(gateway.links.length, 2);
  });

  test("`online` does not hurry a socket that is being dialled", async () => {
    connectTo();
    client.connect().catch(() => {});
    await turn();
    page.tell("online");
    await clock.pass(9_999);
    assert.equal(gateway.links.length, 1);
    assert.equal(gateway.link.closed, false);
  });

  test("`offline` is a state only: an open socket stays, and its pong knows better", async () => {
    await connected();
    const messages = heard(client.topic("dash.a").subscribe());
    await turn();
    gateway.link.subscribed("dash.a");
    page.tell("offline");
    assert.equal(client.state, "offline");
    await clock.pass(10_000);
    assert.equal(gateway.link.closed, false);
    gateway.link.push(message("dash.a", 1));
    assert.deepEqual(messages, [1]);
    gateway.link.push({ type: "pong", id: gateway.link.the("ping").id });
    assert.equal(client.state, "connected");
  });
});

describe("6. liveness, judged by the wall clock", () => {
  test("silence of `heartbeat_ms` and 10 s ends the socket", async () => {
    await connected();
    const { link } = gateway;
    await clock.pass(34_999);
    link.push({ type: "ping" });
    assert.equal(link.the("pong").type, "pong");
    await clock.pass(34_999);
    assert.equal(link.closed, false);
    await clock.pass(1);
    assert.equal(link.closed, true);
    assert.equal(client.state, "waiting");
  });

  test("a timer that comes late asks first, and waits 3 s", async () => {
    await connected();
    const { link } = gateway;
    const pings = link.all("ping").length;
    await clock.sleep(600_000);
    assert.equal(link.closed, false, "who has slept does not kill at once");
    assert.equal(link.all("ping").length, pings + 1);
    await clock.pass(2_999);
    link.push({ type: "pong", id: link.the("ping").id });
    await clock.pass(30_000);
    assert.equal(link.closed, false);

    await clock.sleep(600_000);
    await clock.pass(3_000);
    assert.equal(link.closed, true);
  });

  test("a gateway that does not answer `connect` is given up after 10 s", async () => {
    connectTo();
    client.connect().catch(() => {});
    await turn();
    await clock.pass(10_000);
    assert.equal(gateway.link.closed, true);
    assert.equal(client.state, "waiting");
  });

  test("the time of a ping is told", async () => {
    const times: number[] = [];
    await connected();
    client.on("latency", ({ ms }) => times.push(ms));
    await clock.pass(40);
    gateway.link.push({ type: "pong", id: gateway.link.the("ping").id });
    assert.deepEqual(times, [40]);
  });
});

describe("7. a page that is hidden, left and shown", () => {
  let page: FakePage;
  beforeEach(() => (page = new FakePage()));
  afterEach(() => page.leave());

  test("visible again: a ping, and 3 s for its answer", async () => {
    await connected();
    page.visible(false);
    await clock.pass(20_000);
    const pings = gateway.link.all("ping").length;
    page.visible(true);
    assert.equal(gateway.link.all("ping").length, pings + 1);
    await clock.pass(3_000);
    assert.equal(gateway.link.closed, true);
  });

  test("left and shown again: it closes, and resumes from its cursors", async () => {
    connectTo();
    const subscription = client.topic("dash.a").subscribe();
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.a", { cursor: cursor(4) });
    page.tell("pagehide");
    assert.equal(gateway.link.closed, true);
    assert.equal(client.state, "paused");
    assert.equal(subscription.state, "recovering");
    await clock.pass(600_000);
    assert.equal(gateway.links.length, 1);
    page.show();
    await turn();
    assert.deepEqual(gateway.link.asked("dash.a").from, { cursor: cursor(4) });
  });

  test("thawed: a wait that is over is over", async () => {
    await connected();
    gateway.link.end();
    mock.timers.setTime(Date.now() + 60_000);
    page.thaw();
    await turn();
    assert.equal(gateway.links.length, 2);
  });
});

describe("8. `hidden`", () => {
  let page: FakePage;
  beforeEach(() => (page = new FakePage()));
  afterEach(() => page.leave());

  test("`pause` unsubscribes after a while, and resumes by cursor or with a gap", async () => {
    connectTo({ hidden: { afterMs: 60_000, then: "pause" } });
    const kept = client.topic("dash.a").subscribe();
    const effort = client.topic("chat.1").subscribe();
    const [none, lost] = [gaps(kept), gaps(effort)];
    await turn();
    const { link } = gateway;
    link.connected();
    link.subscribed("dash.a", { cursor: cursor(4) });
    link.subscribed("chat.1");

    page.visible(false);
    await clock.pass(30_000);
    link.push({ type: "ping" });
    await clock.pass(29_999);
    assert.equal(link.all("unsubscribe").length, 0);
    await clock.pass(1);
    assert.equal(client.state, "paused");
    assert.deepEqual(
      link.all("unsubscribe").map(({ topic }) => topic),
      ["dash.a", "chat.1"],
    );

    page.visible(true);
    await turn();
    assert.equal(client.state, "connected");
    assert.deepEqual(link.the("subscribe").topics, [
      { topic: "dash.a", from: { cursor: cursor(4) } },
      { topic: "chat.1", from: "live" },
    ]);
    link.subscribed("dash.a", { cursor: cursor(4) });
    link.subscribed("chat.1");
    assert.deepEqual(none, []);
    assert.deepEqual(lost, [{ reason: "connection_lost", resumed: true }]);
  });

  test("`disconnect` closes after a while, and dials when it is visible", async () => {
    await connected({ hidden: { afterMs: 1_000, then: "disconnect" } });
    page.visible(false);
    await clock.pass(1_000);
    assert.equal(gateway.link.closed, true);
    assert.equal(client.state, "paused");
    page.visible(true);
    await turn();
    assert.equal(client.state, "connecting");
  });

  test("who comes back in time notices nothing", async () => {
    await connected({ hidden: { afterMs: 1_000, then: "disconnect" } });
    page.visible(false);
    await clock.pass(999);
    page.visible(true);
    await clock.pass(2_000);
    assert.equal(client.state, "connected");
  });
});

describe("9. the token is renewed in band, in time", () => {
  const hour = 3_600_000;
  const inAnHour = (): string => new Date(Date.now() + hour).toISOString();

  test("at 80 % of its life, by `token`, not by a reconnect", async () => {
    const { asked, token } = tokens();
    connectTo({ token });
    const connection = client.connect();
    await turn();
    const { link } = gateway;
    link.connected({ expires_at: inAnHour() });
    await connection;
    await pass(0.8 * hour - 1);
    assert.deepEqual(asked, ["connect"]);
    await pass(1);
    assert.deepEqual(asked, ["connect", "expiring"]);
    assert.equal(link.the("token").token, "token 2");
    const end = inAnHour();
    link.push({ type: "token", id: link.the("token").id, expires_at: end });
    assert.equal(client.connection?.expiresAt?.toISOString(), end);
    await pass(0.8 * hour);
    assert.equal(asked.length, 3);
    assert.equal(gateway.links.length, 1);
  });

  test("give or take 5 %", async () => {
    const { asked, token } = tokens();
    connectTo({ token });
    client.connect().catch(() => {});
    await turn();
    random = 0;
    gateway.link.connected({ expires_at: inAnHour() });
    await pass(0.75 * hour - 1);
    assert.equal(asked.length, 1);
    await pass(1);
    assert.equal(asked.length, 2);
  });

  test("one call at a time, and what comes too late is not used", async () => {
    let calls = 0;
    let answer: (token: string) => void = () => {};
    let signal: AbortSignal | undefined;
    connectTo({
      token: (request) => {
        calls += 1;
        signal = request.signal;
        return new Promise((resolve) => (answer = resolve));
      },
    });
    client.connect().catch(() => {});
    await turn();
    assert.equal(calls, 1);
    await clock.pass(29_999);
    assert.equal(calls, 1);
    await client.close();
    assert.equal(signal?.aborted, true);
    answer("t");
    await turn();
    assert.equal(gateway.links.length, 0);
  });

  test("a token that is good is used again after a reconnect", async () => {
    await connected(tokens());
    gateway.link.end();
    await clock.pass(250);
    assert.equal(gateway.link.the("connect").token, "token 1");
  });

  test("anonymous clients have none", async () => {
    await connected();
    assert.equal(gateway.link.the("connect").token, undefined);
  });

  /** Time passes, and the gateway is there all along. */
  async function pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 20_000) {
      await clock.pass(Math.min(left, 20_000));
      gateway.link.push({ type: "ping" });
    }
  }
});

describe("10. whose a publication is", () => {
  test("what is replayed is its subscription's alone; what is live, of all that match and are live", async () => {
    connectTo();
    const wide = heard(client.pattern("dash.**").subscribe());
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.>", { cursor: cursor(9) });
    const narrow = client.topic("dash.a").subscribe({ from: { last: 3 } });
    const one = heard(narrow);
    await turn();
    const { link } = gateway;
    link.subscribed("dash.a", { cursor: cursor(3), replayed: 2, more: true });
    assert.equal(narrow.state, "recovering");
    link.push(message("dash.a", 2, 2), message("dash.a", 3, 3));
    link.push(message("dash.a", 10, 10));
    assert.deepEqual(one, [2, 3], "the next part brings it there");
    link.push({ type: "replay", topic: "dash.a", replayed: 1, more: false }, message("dash.a", 10, 10));
    link.push(message("dash.a", 11, 11), message("dash.b", 12, 12));
    assert.deepEqual(one, [2, 3, 10, 11]);
    assert.deepEqual(wide, [10, 11, 12]);
    assert.deepEqual(await narrow.ready, { recovered: true, replayed: 3, reason: undefined });
  });

  test("what comes for one that has ended is nobody's", async () => {
    connectTo();
    const wide = heard(client.pattern("dash.**").subscribe());
    const narrow = client.topic("dash.a").subscribe({ from: "last" });
    await turn();
    const { link } = gateway;
    const { id } = link.asked("dash.a");
    link.connected();
    link.subscribed("dash.>", { cursor: cursor(1) });
    await narrow.unsubscribe();
    const again = heard(client.topic("dash.a").subscribe());
    await turn();
    link.push({
      type: "subscribed",
      id,
      topic: "dash.a",
      cursor: cursor(1),
      recovered: true,
      replayed: 1,
      more: false,
    });
    link.push(message("dash.a", "old", 1), message("dash.a", "live", 2));
    assert.deepEqual(wide, ["live"]);
    link.subscribed("dash.a", { cursor: cursor(2) });
    link.push(message("dash.a", "new", 3));
    assert.deepEqual(again, ["new"]);
  });
});

describe("11. once", () => {
  test("where history is kept, no offset twice; another history begins anew", async () => {
    connectTo();
    const messages = heard(client.topic("dash.a").subscribe());
    await turn();
    const { link } = gateway;
    link.connected();
    link.subscribed("dash.a", { cursor: cursor(4) });
    link.push(message("dash.a", 5, 5), message("dash.a", 5, 5), message("dash.a", 4, 4), message("dash.a", 6, 6));
    link.push(message("dash.a", "new", 1, { epoch: "zzzzzz" }));
    assert.deepEqual(messages, [5, 6, "new"]);
  });

  test("on best effort, no id of the last 512", async () => {
    connectTo();
    const messages = heard(client.topic("chat.1").subscribe());
    await turn();
    const { link } = gateway;
    link.connected();
    link.subscribed("chat.1");
    for (let n = 0; n <= 512; n += 1) link.push(message("chat.1", n, undefined, { id: `id ${n}` }));
    link.push(
      message("chat.1", "again", undefined, { id: "id 512" }),
      message("chat.1", "again", undefined, { id: "id 1" }),
    );
    assert.equal(messages.length, 513);
    link.push(message("chat.1", "forgotten", undefined, { id: "id 0" }));
    assert.equal(messages.length, 514);
  });
});

describe("12. every loss is an event", () => {
  test("a gap of the gateway, with how many", async () => {
    connectTo();
    const subscription = client.pattern("dash.**").subscribe();
    const lost = gaps(subscription);
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.>", { cursor: cursor(1) });
    gateway.link.push(gap("dash.>", "history_trimmed", 3));
    assert.deepEqual(lost, [{ reason: "history_trimmed", missed: 3, resumed: false }]);
  });

  test("a cursor that cannot be resumed", async () => {
    connectTo();
    const lost = gaps(client.topic("dash.a").subscribe());
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.a", { cursor: cursor(1) });
    gateway.link.end();
    await clock.pass(500);
    gateway.link.connected();
    gateway.link.subscribed("dash.a", { cursor: cursor(1, "bbbbbb"), recovered: false, reason: "epoch_changed" });
    assert.deepEqual(lost, [{ reason: "epoch_changed", resumed: true }]);
    gateway.link.end();
    await clock.pass(1_000);
    assert.deepEqual(gateway.link.asked("dash.a").from, { cursor: cursor(1, "bbbbbb") });
  });

  test("`connection_lost`: best effort, over a reconnect", async () => {
    connectTo();
    const lost = gaps(client.topic("chat.1").subscribe());
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("chat.1");
    assert.deepEqual(lost, []);
    gateway.link.end();
    await clock.pass(500);
    gateway.link.connected();
    assert.deepEqual(lost, [], "it is told when what comes next comes again");
    gateway.link.subscribed("chat.1");
    assert.deepEqual(lost, [{ reason: "connection_lost", resumed: true }]);
  });

  test("an end in the middle of a replay is no loss: it goes on from the last that came", async () => {
    connectTo();
    const subscription = client.pattern("dash.**").subscribe({ from: "last" });
    const lost = gaps(subscription);
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.>", { cursor: cursor(9), replayed: 3 });
    gateway.link.push(message("dash.a", 1, 3));
    gateway.link.end();
    await clock.pass(500);
    assert.deepEqual(gateway.link.asked("dash.>").from, { cursor: cursor(3) });
    assert.deepEqual(lost, []);
  });

  test("and if nothing came, it begins again", async () => {
    connectTo();
    client.pattern("dash.**").subscribe({ from: "last" });
    await turn();
    gateway.link.connected();
    gateway.link.subscribed("dash.>", { cursor: cursor(9), replayed: 3 });
    gateway.link.end();
    await clock.pass(500);
    assert.deepEqual(gateway.link.asked("dash.>").from, "last");
  });
});

describe("13. the live map", () => {
  test("the newest values, then what is live; a tombstone removes its key", async () => {
    connectTo();
    const map = client.pattern<number>("dash.**").live();
    let changes = 0;
    map.subscribe(() => (changes += 1));
    await turn();
    const { link } = gateway;
    link.connected();
    assert.equal(link.asked("dash.>").from, "last");
    link.subscribed("dash.>", { cursor: cursor(2), replayed: 2 });
    link.push(message("dash.a", 1, 1));
    assert.equal(map.get("dash.a"), undefined, "never half of it");
    assert.equal(map.stale, true);
    link.push(message("dash.b", 2, 2));
    await map.synced;
    await turn();
    assert.equal(changes, 1);
    assert.equal(map.stale, false);

    const before = map.snapshot();
    assert.deepEqual(
      [...before],
      [
        ["dash.a", 1],
        ["dash.b", 2],
      ],
    );
    assert.equal(map.snapshot(), before);
    link.push(message("dash.a", 3, 3), tombstone("dash.b", 4));
    await turn();
    assert.equal(changes, 2, "once for all that changes in one turn");
    assert.deepEqual([...map.snapshot()], [["dash.a", 3]]);
    assert.deepEqual(
      [...before],
      [
        ["dash.a", 1],
        ["dash.b", 2],
      ],
    );
  });

  test("what cannot be resumed is read anew, and changed to at once", async () => {
    const { map, reconnect } = await synced();
    const link = await reconnect();
    link.subscribed("dash.>", { cursor: cursor(9), recovered: false, reason: "history_trimmed" });
    await turn();
    assert.equal(link.asked("dash.>").from, "last");
    assert.deepEqual(
      link.all("unsubscribe").map(({ topic }) => topic),
      ["dash.>"],
    );
    assert.equal(map.stale, true);
    link.subscribed("dash.>", { cursor: cursor(9), replayed: 2 });
    link.push(message("dash.b", 8, 8));
    assert.deepEqual([...map.snapshot()], [["dash.a", 1]], "what was there stays until all of it is there");
    link.push(message("dash.c", 9, 9));
    await turn();
    assert.deepEqual(
      [...map.snapshot()],
      [
        ["dash.b", 8],
        ["dash.c", 9],
      ],
    );
    assert.equal(map.stale, false);
  });

  for (const reason of ["epoch_changed", "bus_interrupted"]) {
    test(`\`${reason}\` is read anew`, async () => {
      const { link } = await synced();
      link.push(gap("dash.>", reason));
      await turn();
      assert.equal(link.asked("dash.>").from, "last");
      assert.equal(link.all("subscribe").length, 2);
    });
  }

  test("a trimmed history does it no harm", async () => {
    const { map, link } = await synced();
    link.push(gap("dash.>", "history_trimmed", 3));
    await turn();
    assert.equal(link.all("subscribe").length, 1);
    assert.equal(map.stale, false);
  });

  test("where nothing is kept, it keeps what it has seen", async () => {
    connectTo();
    const map = client.pattern("chat.**").live();
    await turn();
    const { link } = gateway;
    link.connected();
    link.subscribed("chat.>", { recovered: false, reason: "history_trimmed" });
    await map.synced;
    link.push(message("chat.1", "a"), gap("chat.>", "bus_interrupted"));
    await turn();
    assert.equal(link.all("subscribe").length, 1);
    assert.deepEqual([...map.snapshot()], [["chat.1", "a"]]);
  });

  test("stale from the loss of the socket, or of the node's link, to the next sync", async () => {
    const { map, link, reconnect } = await synced();
    link.push({ type: "bus", connected: false });
    assert.equal(map.stale, true);
    link.push({ type: "bus", connected: true });
    assert.equal(map.stale, false);
    link.push({ type: "bus", connected: false });
    const next = await reconnect();
    assert.equal(map.stale, true);
    next.subscribed("dash.>", { cursor: cursor(1) });
    assert.equal(map.stale, false);
  });

  test("one map for all who ask for it; it ends with the last", async () => {
    const { map, link } = await synced();
    const other = client.pattern("dash.>").live();
    await other.synced;
    assert.equal(other.get("dash.a"), 1);
    assert.equal(link.all("subscribe").length, 1);
    await map[Symbol.asyncDispose]();
    await map[Symbol.asyncDispose]();
    await turn();
    assert.equal(link.all("unsubscribe").length, 0);
    await other[Symbol.asyncDispose]();
    await turn();
    assert.equal(link.all("unsubscribe").length, 1);
  });

  test("what is refused is told", async () => {
    connectTo();
    const map = client.pattern("secret.**").live();
    await turn();
    gateway.link.connected();
    gateway.link.error(gateway.link.asked("secret.>").id, "forbidden", { topic: "secret.>" });
    await assert.rejects(map.synced, { code: "forbidden" });
    client.pattern("secret.**").live();
    await turn();
    assert.equal(gateway.link.all("subscribe").length, 2, "another try is another one");
  });

  async function synced() {
    connectTo();
    const map = client.pattern("dash.**").live();
    await turn();
    const { link } = gateway;
    link.connected();
    link.subscribed("dash.>", { cursor: cursor(1), replayed: 1 });
    link.push(message("dash.a", 1, 1));
    await map.synced;
    const reconnect = async () => {
      link.end();
      await clock.pass(500);
      gateway.link.connected();
      return gateway.link;
    };
    return { map, link, reconnect };
  }
});

describe("14. publishing over the loss of a connection", () => {
  const published = (id: number) =>
    ({ type: "published", id, topic: "chat.1", message_id: "p1", stored: false, duplicate: false }) as const;

  test("the answer", async () => {
    await connected();
    const publish = client.topic("chat.1").publish({ text: "hello" });
    const { id, ...command } = gateway.link.the("publish");
    assert.deepEqual(command, { type: "publish", topic: "chat.1", key: undefined, data: { text: "hello" } });
    gateway.link.push(published(id));
    assert.deepEqual(await publish, { id: "p1", cursor: undefined, duplicate: false });
  });

  test("with a key it is sent once more", async () => {
    await connected({ token: "t" });
    const publish = client.topic("chat.1").publish("hello", { key: "k" });
    gateway.link.end();
    await clock.pass(250);
    assert.equal(gateway.link.all("publish").length, 0, "not before it is connected");
    gateway.link.connected();
    assert.equal(gateway.link.the("publish").key, "k");
    gateway.link.end();
    await assert.rejects(publish, { code: "outcome_unknown", retryable: true });
    await clock.pass(1_000);
    gateway.link.connected();
    assert.equal(gateway.link.all("publish").length, 0);
  });

  test("without a Token it is not: its key would be another one on another connection", async () => {
    await connected();
    const publish = client.topic("chat.1").publish("hello", { key: "k" });
    gateway.link.end();
    await assert.rejects(publish, { code: "outcome_unknown", retryable: false });
  });

  test("without one it ends as `outcome_unknown`", async () => {
    await connected();
    const publish = client.topic("chat.1").publish("hello");
    gateway.link.end();
    await assert.rejects(publish, { code: "outcome_unknown", retryable: false });
  });

  test("what was never sent waits for a connection", async () => {
    connectTo();
    const publish = client.topic("chat.1").publish("hello");
    await turn();
    await clock.pass(9_000);
    gateway.link.connected();
    gateway.link.push(published(gateway.link.the("publish").id));
    assert.equal((await publish).id, "p1");
  });

  test("and not for ever", async () => {
    connectTo();
    const never = assert.rejects(client.topic("chat.1").publish("x"), { code: "connection_lost", retryable: true });
    await clock.pass(30_000);
    await never;
    await connected();
    assert.equal(gateway.link.all("publish").length, 0);
  });

  test("no more than 256 wait", async () => {
    await connected();
    for (let n = 0; n < 256; n += 1)
      client
        .topic("chat.1")
        .publish(n)
        .catch(() => {});
    await assert.rejects(client.topic("chat.1").publish("one more"), { code: "overloaded", retryable: true });
  });

  test("a refusal is an error with the gateway's words", async () => {
    await connected();
    const publish = client.topic("chat.1").publish("hello");
    gateway.link.error(gateway.link.the("publish").id, "rate_limited", { retryable: true, retry_after_ms: 180 });
    await assert.rejects(publish, (error: unknown) => {
      assert.ok(error instanceof TidegateError);
      assert.deepEqual([error.code, error.retryable, error.retryAfterMs], ["rate_limited", true, 180]);
      return true;
    });
  });

  test("a signal gives up", async () => {
    await connected();
    const giveUp = new AbortController();
    const publish = client.topic("chat.1").publish("hello", { signal: giveUp.signal });
    giveUp.abort(new Error("never mind"));
    await assert.rejects(publish, { message: "never mind" });
    await assert.rejects(client.topic("chat.1").publish("never sent", { signal: giveUp.signal }));
    assert.equal(gateway.link.all("publish").length, 1);
  });
});
