// The page of `tidegate dev` in a real browser: what a visitor sees, in both sizes and colours.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { Dev, PICTURES, Watched, launch, skip, until } from "./stage.ts";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const DIST = join(import.meta.dirname, "../../dist");
const GZIP_MAX = 60_000;

const WIDE = { viewport: { width: 1280, height: 800 } };
const NARROW = { viewport: { width: 390, height: 844 }, hasTouch: true };
const LOOKS: [name: string, options: BrowserContextOptions][] = [
  ["wide-light", { ...WIDE, colorScheme: "light" }],
  ["wide-dark", { ...WIDE, colorScheme: "dark" }],
  ["narrow-light", { ...NARROW, colorScheme: "light" }],
  ["narrow-dark", { ...NARROW, colorScheme: "dark" }],
];

test("the page and all that it loads is small", async () => {
  const files = ["tidegate.js", ...["index.html", "page.css", "page.js", "icon.svg"].map((name) => join("example", name))];
  let bytes = 0;
  for (const file of files) bytes += gzipSync(await readFile(join(DIST, file)), { level: 9 }).length;
  assert.ok(bytes <= GZIP_MAX, `${bytes} bytes`);
});

describe("the dashboard", { skip: skip() }, () => {
  let dev: Dev;
  let browser: Browser;

  before(async () => {
    [dev, browser] = await Promise.all([Dev.start(), launch()]);
  });
  after(async () => {
    await browser?.close();
    await dev?.stop();
  });

  /** Opens it and waits until it lives. */
  async function open(options: BrowserContextOptions = WIDE): Promise<Watched> {
    const watched = await Watched.open(browser, `${dev.origin}/`, options);
    await watched.page.locator('#chip[data-state="connected"]').waitFor();
    await until("all charts have values", async () => (await watched.page.locator(".newest td").count()) >= 12);
    await until("all topics are there", async () => (await watched.page.locator("#topics tr[data-topic]").count()) >= 5);
    return watched;
  }

  const number = async (watched: Watched, selector: string) => Number((await watched.text(selector)).replace(/\D/g, ""));

  for (const [name, options] of LOOKS) {
    test(`${name}: it lives, fits, and has no fault that a machine can find`, async () => {
      const watched = await open(options);
      const { page } = watched;
      // A blank canvas has one colour: nothing.
      await until("something is drawn on each canvas", () =>
        page.locator("canvas").evaluateAll((all) =>
          all.length === 7 && (all as HTMLCanvasElement[]).every((canvas) => {
            const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
            return data.some((value, at) => at % 4 === 3 && value > 200);
          }),
        ),
      );
      const [scrolls, fits] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(scrolls! <= fits!, `${scrolls} px in ${fits}`);
      assert.match(await watched.text("#state"), /Connected/);

      await page.locator("#cut").click();
      await until("it is back", async () => /back, complete/.test(await watched.text("#verdict")));
      await page.mouse.move(0, 0);
      await page.screenshot({ path: join(PICTURES, `${name}.png`) });
      await page.screenshot({ path: join(PICTURES, `${name}-whole.png`), fullPage: true });
      await page.evaluate(await readFile(AXE, "utf8")); // past the page's policy, which lets no foreign script in
      const findings = await page.evaluate(async () => {
        const { axe } = window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
        return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      });
      assert.deepEqual(findings, []);
      assert.deepEqual(watched.faults, []);
      await watched.close();
    });
  }

  test("a cut loses nothing: what was missed is replayed", async () => {
    const watched = await open();
    for (let round = 0; round < 3; round += 1) {
      const before = await number(watched, "#newest");
      await watched.page.locator("#cut").click();
      await watched.page.locator('#chip[data-word="waiting"], #chip[data-word="connecting"]').waitFor();
      await watched.page.locator('#chip[data-word="connected"]').waitFor();
      await until("it is back", async () => /back, complete/.test(await watched.text("#verdict")) && (await number(watched, "#newest")) > before + 5);
      const [missed, replayed, lost] = [await number(watched, "#missed"), await number(watched, "#replayed"), await number(watched, "#lost")];
      assert.equal(missed, replayed);
      assert.equal(lost, 0);
    }
    assert.deepEqual(watched.faults, []);
    await watched.close();
  });

  test("a drain goes unnoticed: the page moves, the counter has no hole, the state stays", async () => {
    const watched = await open();
    const { page } = watched;
    await page.evaluate(() => {
      const chip = document.querySelector<HTMLElement>("#chip")!;
      const seen: string[] = [];
      Object.assign(window, { seen });
      new MutationObserver(() => seen.push(chip.dataset["word"] ?? "")).observe(chip, { attributes: true });
    });
    const [before, place] = [await number(watched, "#newest"), await watched.text("#detail")];
    await page.locator("#drain").click();
    await until("it has moved", async () => /Moved to a new connection/.test(await watched.text("#verdict")));
    await until("the counter goes on", async () => (await number(watched, "#newest")) > before + 40);
    assert.match(await watched.text("#verdict"), /the state never left connected: 0 numbers missing/);
    assert.notEqual(await watched.text("#detail"), place);
    const seen = await page.evaluate(() => (window as unknown as { seen: string[] }).seen);
    assert.ok(seen.every((word) => word === "connected"), seen.join());
    assert.equal(await number(watched, "#lost"), 0);
    assert.deepEqual(watched.faults, []);
    await watched.close();
  });

  test("after a restart of the node it comes back, and does not pretend to know what it missed", async () => {
    let mortal = await Dev.start();
    const watched = await Watched.open(browser, `${mortal.origin}/`, WIDE);
    await until("it counts", async () => (await number(watched, "#newest")) > 5);
    await mortal.stop();
    await watched.page.locator('#chip:not([data-word="connected"])').waitFor();
    mortal = await Dev.start(Number(new URL(mortal.origin).port));
    await until("it is back", async () => /cannot be had/.test(await watched.text("#verdict")));
    assert.equal(await watched.text("#lost"), "?");
    await until("it counts again", async () => (await number(watched, "#newest")) > 5);
    await watched.close();
    await mortal.stop();
  });

  test("a visitor's publication arrives, from the box and from elsewhere", async () => {
    const watched = await open();
    const { page } = watched;
    await dev.publish("demo.hello", { from: "a shell" });
    await until("it has arrived", async () => /a shell/.test(await watched.text("#arrival")));
    await page.locator("#publish-payload").fill('{"from": "the box"}');
    await page.locator("#publish button[type=submit]").click();
    await until("it is published", async () => /Published to demo.hello/.test(await watched.text("#publish-result")));
    await until("it has arrived", async () => /the box/.test(await watched.text("#arrival")));
    const row = page.locator('#topics tr[data-topic="demo.hello"]');
    assert.match(await row.innerText(), /the box/);
    await page.locator("#publish-delete").click();
    await row.waitFor({ state: "detached" });

    await page.locator("#publish-topic").fill("no topic");
    await page.locator("#publish button[type=submit]").click();
    await until("it is refused", async () => /invalid_topic/.test(await watched.text("#publish-result")));
    assert.deepEqual(watched.faults, []);
    await watched.close();
  });

  test("another Pattern shows its Topics; a bad one says why, and changes nothing", async () => {
    const watched = await open();
    const { page } = watched;
    const topics = () => page.locator("#topics tr[data-topic]").evaluateAll((rows) => rows.map((row) => (row as HTMLElement).dataset["topic"]));
    await page.locator("#pattern").fill("demo.c*");
    await page.locator("#pattern").press("Enter");
    await page.locator("#pattern-note", { hasText: "invalid_topic" }).waitFor();
    assert.ok((await topics()).length >= 5);
    await page.locator("#pattern").fill("demo.cpu");
    await page.locator("#pattern").press("Enter");
    await until("it shows one", async () => (await topics()).join() === "demo.cpu");
    await page.locator("#topics button").click();
    assert.match(await watched.text("#topics pre"), /"cores": \[/);
    assert.deepEqual(watched.faults, []);
    await watched.close();
  });

  test("it is walked by keys, in the order of the page, and what has the focus shows it", async () => {
    const watched = await open();
    const { page } = watched;
    const walked: string[] = [];
    for (let at = 0; at < 60; at += 1) {
      await page.keyboard.press("Tab");
      const focus = await page.evaluate(() => {
        const one = document.activeElement as HTMLElement;
        const { outlineStyle, outlineWidth } = getComputedStyle(one);
        return { name: one.id || one.getAttribute("aria-label") || one.innerText, ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2, body: one === document.body };
      });
      if (focus.body) break;
      assert.ok(focus.ring, `${focus.name} has no ring`);
      walked.push(focus.name);
    }
    const order = ["pause", "cut", "drain", "log", "publish-topic", "publish-payload", "Publish", "publish-delete", "Copy: Or from a shell", "pattern", "Watch", "demo.counter", "demo.cpu", "Copy: SDK"];
    assert.deepEqual(walked.filter((name) => order.includes(name)), order);
    await page.locator("#cut").focus();
    await page.keyboard.press("Enter");
    await until("Enter cuts", async () => /back, complete/.test(await watched.text("#verdict")));
    assert.equal(await page.evaluate(() => document.activeElement?.id), "cut");
    await watched.close();
  });

  test("it draws ten times a second at most, and not at all while it is paused", async () => {
    const watched = await open();
    const { page } = watched;
    const frames = (ms: number) =>
      page.evaluate(async (ms) => {
        let frames = 0;
        const clear = CanvasRenderingContext2D.prototype.clearRect;
        CanvasRenderingContext2D.prototype.clearRect = function (...place) {
          if (this.canvas.id === "ribbon") frames += 1;
          clear.apply(this, place);
        };
        await new Promise((later) => setTimeout(later, ms));
        CanvasRenderingContext2D.prototype.clearRect = clear;
        return frames;
      }, ms);
    const drawn = await frames(2_000);
    assert.ok(drawn >= 1 && drawn <= 20, `${drawn} in two seconds`);
    await page.locator("#pause").click();
    assert.equal(await frames(500), 0);
    await page.locator("#pause").click();
    await until("it draws again", async () => (await frames(500)) > 0);
    await watched.close();
  });
});
