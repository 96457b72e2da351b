// One connection for all tabs, in a real browser and on a real gateway.

import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { Balancer, Gateway, missing, token, until } from "../servers.ts";
import { Site } from "./site.ts";
import type { Window } from "./site.ts";
import { launch, skip } from "./stage.ts";

describe("tabs that share", { skip: skip() || (missing() ?? false) }, () => {
  let site: Site;
  let gateway: Gateway;
  let balancer: Balancer;
  let browser: Browser;
  let context: BrowserContext;

  before(async () => {
    site = await Site.start({ "/other.js": "onconnect = ({ ports: [port] }) => port.postMessage('hello')" });
    [gateway, browser] = await Promise.all([Gateway.start({ origins: [site.origin] }), launch()]);
    balancer = await Balancer.start(gateway.port);
  });
  after(async () => {
    await browser?.close();
    await balancer?.stop();
    await gateway?.stop();
    await site?.stop();
  });
  beforeEach(async () => (context = await browser.newContext()));
  afterEach(async () => {
    await context.close();
    await connections(0);
  });

  const connections = (count: number) => until(`${count} connections`, async () => (await gateway.connections()) === count);
  const tab = async (): Promise<Page> => site.open(await context.newPage());

  /** A tab that watches a Pattern. */
  async function watch(pattern: string, options: { from?: "last" | "live"; user?: string; worker?: string; page?: Page } = {}): Promise<Page> {
    const { from = "live", user = "ana", worker = "/tidegate.js", page = await tab() } = options;
    const argument = { url: balancer.origin, token: token(user), worker, pattern, from };
    await page.evaluate(async ({ pattern, from, ...options }) => (globalThis as unknown as Window).watch(options, pattern, from), argument);
    return page;
  }

  const seen = (page: Page) => page.evaluate(() => (globalThis as unknown as Window).seen.map(({ data }) => data));
  const sees = (page: Page, ...data: unknown[]) =>
    until(`a tab has seen ${JSON.stringify(data)}`, async () => JSON.stringify(await seen(page)) === JSON.stringify(data));
  const gaps = (page: Page) => page.evaluate(() => (globalThis as unknown as Window).gaps);

  test("two tabs have one connection; each has its own start, and every message once", async () => {
    await gateway.publish("kept.a1", 1);
    await gateway.publish("kept.a2", 2);
    const one = await watch("kept.*", { from: "live" });
    const other = await watch("kept.*", { from: "last" });
    await sees(other, 1, 2);
    for (const data of [3, 4]) await gateway.publish("kept.a1", data);
    await sees(one, 3, 4);
    await sees(other, 1, 2, 3, 4);
    assert.equal(await gateway.connections(), 1);
    assert.deepEqual([await gaps(one), await gaps(other)], [[], []]);
    const replayed = await other.evaluate(() => (globalThis as unknown as Window).seen.map(({ replayed }) => replayed));
    assert.deepEqual(replayed, [true, true, false, false]);
    assert.equal(await one.evaluate(() => (globalThis as unknown as Window).client.connection?.transport), "shared");

    const published = await one.evaluate(() => (globalThis as unknown as Window).client.topic("kept.a1").publish(5, { key: "five" }));
    assert.equal(published.duplicate, false);
    await sees(other, 1, 2, 3, 4, 5);
    const page = await other.evaluate(() => (globalThis as unknown as Window).client.topic("kept.a1").history());
    assert.deepEqual(page.items.map(({ data }) => data), [1, 3, 4, 5]);
    const refused = await one.evaluate(() => (globalThis as unknown as Window).client.topic("nobody.x").publish(1).catch((error: { code: string }) => error.code));
    assert.equal(refused, "forbidden");
  });

  test("tabs that overlap on what is not kept share, too", async () => {
    const [one, other] = [await watch("open.>"), await watch("open.x.y")];
    for (let at = 0; at < 50; at += 1) await gateway.publish("open.x.y", at);
    const all = Array.from({ length: 50 }, (_, at) => at);
    await sees(one, ...all);
    await sees(other, ...all);
    assert.equal(await gateway.connections(), 1);
  });

  test("a tab that dies takes nothing along, and the last one the connection", async () => {
    const [one, other] = [await watch("kept.b1"), await watch("kept.b2")];
    await one.close();
    await gateway.publish("kept.b2", "after");
    await sees(other, "after");
    assert.equal(await gateway.connections(), 1);
    const subscriptions = async () => (await gateway.status())["subscriptions"];
    await until("its Subscription is gone", async () => (await subscriptions()) === 1);
    const cdp = await context.newCDPSession(other);
    void cdp.send("Page.crash").catch(() => {});
    await connections(0);
  });

  test("two users never share", async () => {
    const [ana, bo] = [await watch("kept.c", { user: "ana" }), await watch("kept.c", { user: "bo" })];
    assert.equal(await gateway.connections(), 2);
    await ana.evaluate(() => (globalThis as unknown as Window).client.topic("kept.c").publish("ana's"));
    await sees(bo, "ana's");
  });

  test("a connection that is lost comes back once for all, and nothing is missing", async () => {
    const tabs = [await watch("kept.d"), await watch("kept.d"), await watch("kept.>")];
    await gateway.publish("kept.d", 0);
    for (const one of tabs) await sees(one, 0);
    balancer.cut();
    for (let at = 1; at <= 20; at += 1) await gateway.publish("kept.d", at);
    const all = Array.from({ length: 21 }, (_, at) => at);
    for (const one of tabs) await sees(one, ...all);
    await connections(1);
    for (const one of tabs) assert.deepEqual(await gaps(one), []);
  });

  test("a Token is renewed by the tabs, for all of them, on the same connection", async () => {
    await context.exposeFunction("mint", () => token("ana", 20));
    const options = { url: balancer.origin, worker: "/tidegate.js", mint: true };
    const tabs = [await tab(), await tab()];
    const watching = (page: Page) => page.evaluate((options) => (globalThis as unknown as Window).watch(options, "kept.token"), options);
    const [id] = [await watching(tabs[0]!), await watching(tabs[1]!)];
    const ends = (page: Page) => page.evaluate(() => (globalThis as unknown as Window).client.connection?.expiresAt?.getTime() ?? 0);
    const end = await ends(tabs[0]!);
    for (const one of tabs) await until("both know the new end", async () => (await ends(one)) > end);
    // Beyond the end of the first Token, and the time that a node takes to see it.
    await until("the first would have ended", () => Date.now() > end + 6_000);
    await gateway.publish("kept.token", "after");
    for (const one of tabs) {
      await sees(one, "after");
      const [connection, states] = await one.evaluate(() => [(globalThis as unknown as Window).client.connection?.id, (globalThis as unknown as Window).states]);
      assert.equal(connection, id);
      assert.ok(!states?.includes("waiting"));
    }
  });

  test("a Token that was refused is asked for again, by a tab", async () => {
    await context.exposeFunction("mint", (reason: string) => token("ana", reason === "rejected" ? 3_600 : -60));
    const page = await tab();
    const options = { url: balancer.origin, worker: "/tidegate.js", mint: true };
    await page.evaluate((options) => (globalThis as unknown as Window).watch(options, "kept.refused"), options);
    assert.deepEqual(await page.evaluate(() => (globalThis as unknown as Window).reasons), ["connect", "rejected"]);
    assert.equal(await page.evaluate(() => (globalThis as unknown as Window).client.connection?.transport), "shared");
  });

  test("a reload of one tab leaves the others alone, and goes on itself", async () => {
    const [one, other] = [await watch("kept.reload"), await watch("kept.reload")];
    await one.reload();
    await site.open(one);
    await watch("kept.reload", { page: one, from: "last" });
    await gateway.publish("kept.reload", 1);
    await sees(one, 1);
    await sees(other, 1);
    assert.equal(await gateway.connections(), 1);
    assert.deepEqual(await other.evaluate(() => (globalThis as unknown as Window).states.includes("waiting")), false);
  });

  for (const [what, worker] of [
    ["of another origin", () => `${gateway.origin}/tidegate.js`],
    ["that is not there", () => "/missing.js"],
    ["that is something else", () => "/other.js"],
  ] as const) {
    test(`with a worker ${what} each tab has a connection of its own`, async () => {
      const [one, other] = [await watch("kept.e", { worker: worker() }), await watch("kept.e", { worker: worker() })];
      await gateway.publish("kept.e", what);
      await sees(one, what);
      await sees(other, what);
      assert.equal(await gateway.connections(), 2);
    });
  }
});
