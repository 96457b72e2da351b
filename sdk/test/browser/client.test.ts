// The client in a real browser, on real gateways: what a page and its network go through, and that nothing that is
// kept is missing or comes twice.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { chromium } from "playwright-core";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { Balancer, Gateway, missing, Nats, pause, token, until } from "../servers.ts";
import { Site } from "./site.ts";
import type { WatchOptions, Window } from "./site.ts";
import { CHROMIUM, launch, skip } from "./stage.ts";

const why = skip() || (missing() ?? false);
/** Of the nodes that say goodbye: moves are over when it is. */
const DRAIN = "drain: {lame_duck: 0s, window: 2s}";
/** A node that soon sees that nobody answers. */
const IMPATIENT = "limits: {ping_after: 2s, pong_timeout: 5s}";

const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, at) => from + at);

/** A page that watches a Pattern. */
class Watching {
  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  async watch(options: WatchOptions, pattern: string, from?: "live" | "last"): Promise<string> {
    return this.page.evaluate(async ({ options, pattern, from }) => (globalThis as unknown as Window).watch(options, pattern, from), { options, pattern, from });
  }

  read<K extends "seen" | "gaps" | "states" | "reasons">(what: K): Promise<Window[K]> {
    return this.page.evaluate((what) => (globalThis as unknown as Window)[what as K], what) as Promise<Window[K]>;
  }

  async sees(data: readonly unknown[]): Promise<void> {
    await until(`it has seen ${data.length}`, async () => (await this.read("seen")).length >= data.length);
    assert.deepEqual((await this.read("seen")).map(({ data }) => data), data);
    assert.deepEqual(await this.read("gaps"), []);
  }

  state(state: string): Promise<void> {
    return until(`it is ${state}`, () => this.page.evaluate((state) => (globalThis as unknown as Window).client.state === state, state));
  }

  connection(): Promise<{ id: string; node: string } | undefined> {
    return this.page.evaluate(() => (globalThis as unknown as Window).client.connection);
  }
}

describe("a page and its gateway", { skip: why }, () => {
  let site: Site;
  let gateway: Gateway;
  let balancer: Balancer;
  let browser: Browser;
  let context: BrowserContext;
  let watching: Watching;

  before(async () => {
    site = await Site.start();
    [gateway, browser] = await Promise.all([Gateway.start({ origins: [site.origin], lines: [IMPATIENT] }), launch()]);
    balancer = await Balancer.start(gateway.port);
  });
  after(async () => {
    await browser?.close();
    await balancer?.stop();
    await gateway?.stop();
    await site?.stop();
  });
  beforeEach(async () => {
    context = await browser.newContext();
    watching = new Watching(await site.open(await context.newPage()));
  });
  afterEach(() => context.close());

  const publish = async (topic: string, data: readonly unknown[]) => {
    for (const one of data) await gateway.publish(topic, one);
  };

  test("a reload goes on where the page was", async () => {
    await watching.watch({ url: balancer.origin, remember: true }, "kept.reload");
    await publish("kept.reload", [0, 1]);
    await watching.sees([0, 1]);
    await watching.page.goto("about:blank");
    await publish("kept.reload", [2, 3]);
    await site.open(watching.page);
    await watching.watch({ url: balancer.origin, remember: true }, "kept.reload");
    await watching.sees([2, 3]);
    await watching.page.reload();
    await site.open(watching.page);
    await watching.watch({ url: balancer.origin, remember: true }, "kept.reload");
    await publish("kept.reload", [4]);
    await watching.sees([4]);
  });

  test("offline, it waits; online, it comes back at once with all that was missed", async () => {
    await watching.watch({ url: balancer.origin }, "kept.offline");
    await context.setOffline(true);
    balancer.cut();
    await watching.state("offline");
    await publish("kept.offline", numbers(5));
    await context.setOffline(false);
    await watching.sees(numbers(5));
    await watching.state("connected");
  });

  test("of a thousand messages during a cut none is lost, and none comes twice", async () => {
    await watching.watch({ url: balancer.origin }, "kept.cut.>");
    await publish("kept.cut.a", [0]);
    balancer.ports.delete(gateway.port);
    balancer.cut();
    await watching.state("waiting");
    await gateway.publishAll(numbers(1_000, 1).map((data) => ({ topic: `kept.cut.t${data % 7}`, data })));
    balancer.ports.add(gateway.port);
    await watching.sees(numbers(1_001));
    await publish("kept.cut.a", [1_001]);
    await watching.sees(numbers(1_002));
  });

  test("a frozen tab is left by its node, and has everything when it is thawed", async () => {
    await watching.watch({ url: gateway.origin }, "kept.frozen");
    await publish("kept.frozen", [0]);
    await watching.sees([0]);
    // Playwright makes every page think that it has the focus, and Chromium freezes no such page: its process is stopped.
    const cdp = await browser.newBrowserCDPSession();
    const { processInfo } = await cdp.send("SystemInfo.getProcessInfo");
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    for (const { id } of renderers) process.kill(id, "SIGSTOP");
    await until("its node has left it", async () => (await gateway.connections()) === 0);
    await publish("kept.frozen", numbers(5, 1));
    for (const { id } of renderers) process.kill(id, "SIGCONT");
    await watching.sees(numbers(6));
  });

  test("a Token is renewed before its end, without another connection", async () => {
    await context.exposeFunction("mint", () => token("ana", 16));
    const id = await watching.watch({ url: gateway.origin, mint: true }, "kept.token");
    await until("it is renewed twice", async () => (await watching.read("reasons")).length === 3);
    assert.deepEqual(await watching.read("reasons"), ["connect", "expiring", "expiring"]);
    assert.deepEqual((await watching.connection())?.id, id);
    assert.deepEqual(await watching.read("states"), ["connecting", "connected"].slice(-(await watching.read("states")).length));
    await publish("kept.token", [0]);
    await watching.sees([0]);
  });

  test("a Token that is refused is asked for once more", async () => {
    await context.exposeFunction("mint", (reason: string) => token("ana", reason === "rejected" ? 3_600 : -60));
    await watching.watch({ url: gateway.origin, mint: true }, "kept.refused");
    assert.deepEqual(await watching.read("reasons"), ["connect", "rejected"]);
  });

  for (const worker of [undefined, "/tidegate.js"]) {
    test(`back out of the browser's cache, it goes on${worker ? ", if it shares, too" : ""}`, async () => {
      const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
      const caching = await chromium.launch({ executablePath: CHROMIUM as string, args, ignoreDefaultArgs: ["--disable-back-forward-cache"] });
      try {
        const cached = new Watching(await site.open(await caching.newPage()));
        await cached.watch({ url: gateway.origin, remember: true, worker }, "kept.back");
        await publish("kept.back", [0]);
        await cached.sees([0]);
        await site.open(cached.page, "/elsewhere");
        await until("it has hung up", async () => (await gateway.connections()) === 0);
        await publish("kept.back", [1, 2]);
        await cached.page.goBack({ waitUntil: "commit" });
        await cached.page.waitForFunction(() => "watch" in globalThis);
        // A browser may have loaded the page anew: then its Cursor is what goes on.
        const kept = await cached.page.evaluate(() => "client" in globalThis);
        if (!kept) await cached.watch({ url: gateway.origin, remember: true, worker }, "kept.back");
        await cached.sees(kept ? [0, 1, 2] : [1, 2]);
        assert.ok(kept, "Chromium keeps pages of this client in its cache");
      } finally {
        await caching.close();
      }
    });
  }
});

describe("a page and two gateways", { skip: why }, () => {
  let site: Site;
  let nats: Nats;
  let gateways: Gateway[];
  let balancer: Balancer;
  let browser: Browser;
  let watching: Watching;

  before(async () => {
    [site, nats, browser] = await Promise.all([Site.start(), Nats.start(), launch()]);
    const options = { nats: nats.url, origins: [site.origin], lines: [DRAIN] };
    gateways = [await Gateway.start(options), await Gateway.start(options)];
    balancer = await Balancer.start(...gateways.map(({ port }) => port));
  });
  after(async () => {
    await browser?.close();
    await balancer?.stop();
    for (const gateway of gateways ?? []) await gateway.stop();
    await nats?.stop();
    await site?.stop();
  });

  /** The gateway that the page is connected to, and the other one. */
  async function sides(): Promise<[here: Gateway, there: Gateway]> {
    const [one, other] = gateways as [Gateway, Gateway];
    return (await one.connections()) > 0 ? [one, other] : [other, one];
  }

  for (const worker of [undefined, "/tidegate.js"]) {
    const how = worker ? "by the shared worker" : "by its own socket";

    test(`${how}: its node is killed, and the other takes over without a hole`, async () => {
      const context = await browser.newContext();
      watching = new Watching(await site.open(await context.newPage()));
      await watching.watch({ url: balancer.origin, worker }, "kept.kill.>");
      const [here, there] = await sides();
      const topic = worker ? "kept.kill.shared" : "kept.kill.own";
      for (const data of numbers(5)) await there.publish(topic, data);
      await watching.sees(numbers(5));
      const killed = here.kill();
      for (const data of numbers(20, 5)) await there.publish(topic, data);
      await killed;
      await watching.sees(numbers(25));
      await here.run();
      await context.close();
    });

    test(`${how}: its node says goodbye, and nobody notices`, async () => {
      const context = await browser.newContext();
      watching = new Watching(await site.open(await context.newPage()));
      await watching.watch({ url: balancer.origin, worker }, "open.drain");
      await watching.watch({ url: balancer.origin, worker }, "kept.drain");
      const [here, there] = await sides();
      let count = 0;
      let on = true;
      const counting = (async () => {
        for (; on; count += 1) {
          await there.publish("open.drain", `open ${count}`);
          await there.publish("kept.drain", `kept ${count}`);
          await pause(20);
        }
      })();
      await until("it counts", async () => (await watching.read("seen")).length > 20);
      await here.drain();
      await until("all have moved", async () => (await there.connections()) === 1);
      await until("its node has ended", async () => (await here.connections().catch(() => -1)) === -1);
      await pause(500);
      on = false;
      await counting;
      await until("it has all", async () => (await watching.read("seen")).length >= 2 * count);
      const seen = (await watching.read("seen")).map(({ data }) => String(data));
      for (const kind of ["open", "kept"]) {
        assert.deepEqual(seen.filter((one) => one.startsWith(kind)), numbers(count).map((at) => `${kind} ${at}`));
      }
      assert.deepEqual(await watching.read("gaps"), []);
      assert.ok((await watching.read("states")).every((state) => state === "connecting" || state === "connected"));
      assert.ok((await watching.read("states")).lastIndexOf("connecting") <= 0);
      await here.run();
      await context.close();
    });
  }
});
