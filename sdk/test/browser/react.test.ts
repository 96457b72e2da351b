// Components in strict mode, in a real browser and on a real gateway.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { build } from "esbuild";
import type { Browser } from "playwright-core";
import { Gateway, missing, until } from "../servers.ts";
import type { BoardWindow } from "./board.ts";
import { Site } from "./site.ts";
import { launch, skip } from "./stage.ts";

describe("components", { skip: skip() || (missing() ?? false) }, () => {
  let site: Site;
  let gateway: Gateway;
  let browser: Browser;

  before(async () => {
    const entry = join(import.meta.dirname, "board.ts");
    const define = { "process.env.NODE_ENV": '"development"' };
    const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: "esm", target: "es2022", write: false, define });
    site = await Site.start({ "/board.js": outputFiles[0]?.text ?? "" });
    [gateway, browser] = await Promise.all([Gateway.start({ origins: [site.origin] }), launch()]);
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
    await site?.stop();
  });

  test("they show what is live, in strict mode, after hydration, over a change of Pattern and to the end", async () => {
    await gateway.publish("kept.r.a", 1);
    await gateway.publish("kept.r.b", 2);
    await gateway.publish("kept.s.a", 7);
    const page = await browser.newPage();
    const faults: string[] = [];
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(`${site.origin}/?gateway=${gateway.origin}`);
    await page.addScriptTag({ url: "/board.js", type: "module" });
    const shows = (id: string, text: string) => until(`${id} shows ${text}`, async () => (await page.locator(`#${id}`).innerText()) === text);
    const log = () => page.evaluate(() => (globalThis as unknown as BoardWindow).log);

    await shows("status", "connected");
    for (const board of ["one", "other"]) await shows(board, "kept.r.a=1 kept.r.b=2");
    await shows("latest", "1");
    assert.equal(await page.locator("#one").getAttribute("data-stale"), "false");

    await gateway.publish("kept.r.a", 3);
    for (const board of ["one", "other"]) await shows(board, "kept.r.a=3 kept.r.b=2");
    await shows("latest", "3");
    await until("it is received once", async () => (await log()).join() === "kept.r.* 3");

    await fetch(`${gateway.origin}/v1/topics/kept.r.a`, { method: "DELETE" });
    await shows("one", "kept.r.b=2");
    await shows("latest", "undefined");
    await until("so is its end", async () => (await log()).join() === "kept.r.* 3,kept.r.* gone");

    await page.evaluate(() => (globalThis as unknown as BoardWindow).show("kept.s.*"));
    for (const board of ["one", "other"]) await shows(board, "kept.s.a=7");
    await until("live", async () => (await page.locator("#one").getAttribute("data-stale")) === "false");
    await gateway.publish("kept.s.a", 8);
    await shows("one", "kept.s.a=8");
    await until("the new one is received", async () => (await log()).includes("kept.s.* 8"));

    await page.evaluate(() => (globalThis as unknown as BoardWindow).root.unmount());
    await until("nothing is subscribed to any more", async () => (await gateway.status()).subscriptions === 0);
    assert.deepEqual(faults, []);
  });
});
