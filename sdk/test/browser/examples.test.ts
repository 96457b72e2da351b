// The small applications of `examples/`, each with two people on it, as `tidegate dev` serves them.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Browser } from "playwright-core";
import { Dev, PICTURES, Watched, launch, skip, until } from "./stage.ts";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const FOLDER = join(import.meta.dirname, "../../examples");
const LINES_MAX = 150;

test("each is short, and needs nothing but the library", async () => {
  for (const name of await readdir(FOLDER)) {
    const text = await readFile(join(FOLDER, name), "utf8");
    assert.ok(text.split("\n").length <= LINES_MAX, `${name} is too long`);
    const imports = [...text.matchAll(/^import .* from "(.*)";$/gm)].map(([, from]) => from);
    assert.deepEqual(imports, name.endsWith(".js") ? ["/tidegate.js"] : [], name);
  }
});

describe("the examples", { skip: skip() }, () => {
  let dev: Dev;
  let browser: Browser;

  before(async () => {
    [dev, browser] = await Promise.all([Dev.start(), launch()]);
  });
  after(async () => {
    await browser?.close();
    await dev?.stop();
  });

  /** Two windows of one example, both connected. */
  async function two(name: string): Promise<[Watched, Watched]> {
    const open = async (colorScheme: "light" | "dark") => {
      const watched = await Watched.open(browser, `${dev.origin}/examples/${name}.html`, { colorScheme, viewport: { width: 800, height: 700 } });
      await watched.page.locator("#state", { hasText: "connected" }).waitFor();
      return watched;
    };
    return [await open("light"), await open("dark")];
  }

  async function done(name: string, windows: Watched[]): Promise<void> {
    for (const [at, watched] of windows.entries()) {
      await watched.page.screenshot({ path: join(PICTURES, `example-${name}-${at}.png`) });
      await watched.page.evaluate(await readFile(AXE, "utf8"));
      const findings = await watched.page.evaluate(async () => {
        const { axe } = window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
        return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      });
      assert.deepEqual(findings, []);
      assert.deepEqual(watched.faults, []);
      await watched.close();
    }
  }

  test("chat: both read both, and who comes later reads it too", async () => {
    const [ana, ben] = await two("chat");
    await ana.page.locator("#name").fill("ana");
    await ana.page.locator("#text").fill("hello <b>there</b>");
    await ana.page.locator("#say button").click();
    await until("ben reads it", async () => /ana hello <b>there<\/b>/.test(await ben.text("#said")));
    await ben.page.locator("#name").fill("ben");
    await ben.page.locator("#text").fill("hi");
    await ben.page.locator("#text").press("Enter");
    await until("ana reads it", async () => /ben hi/.test(await ana.text("#said")));
    await ana.page.reload();
    await until("it is still there", async () => (await ana.page.locator("#said li").count()) === 2);
    await done("chat", [ana, ben]);
  });

  test("cursors: a pointer is seen by the other, and is gone with its page", async () => {
    const [ana, ben] = await two("cursors");
    await until("both see both", async () => (await ana.text("#count")) === "2" && (await ben.text("#count")) === "2");
    const box = (await ana.page.locator("#field").boundingBox())!;
    await ana.page.mouse.move(box.x + box.width / 4, box.y + box.height / 2);
    await until("ben sees it move", () =>
      ben.page.locator(".dot").evaluateAll((dots) => dots.some((dot) => Math.abs(parseFloat((dot as HTMLElement).style.left) - 25) < 1)),
    );
    await ben.page.locator("#field").focus();
    await ben.page.keyboard.press("ArrowLeft");
    await until("ana sees that", () => ana.page.locator(".dot").evaluateAll((dots) => dots.some((dot) => (dot as HTMLElement).style.left === "48%")));
    await ana.page.goto(`${dev.origin}/examples/chat.html`);
    await until("it is gone", async () => (await ben.text("#count")) === "1");
    await ana.close();
    await done("cursors", [ben]);
  });

  test("board: what one paints, both have", async () => {
    const [ana, ben] = await two("board");
    await ana.page.getByRole("radio", { name: "violet" }).click();
    await ana.page.locator('[data-topic="demo.board.3-2"]').click();
    await ben.page.locator('[data-topic="demo.board.3-2"].violet').waitFor();
    await ben.page.getByRole("radio", { name: "orange" }).click();
    await ben.page.locator('[data-topic="demo.board.0-0"]').focus();
    await ben.page.keyboard.press("ArrowRight");
    await ben.page.keyboard.press("ArrowDown");
    await ben.page.keyboard.press("Enter");
    await ana.page.locator('[data-topic="demo.board.1-1"].orange').waitFor();
    await ana.page.locator('[data-topic="demo.board.3-2"]').click();
    await ben.page.locator('[data-topic="demo.board.3-2"]:not(.violet)').waitFor();
    await done("board", [ana, ben]);
  });

  test("ticker: all see the prices of the one that makes them, also when it is gone", async () => {
    const context = await browser.newContext(); // the lock of one browser profile
    const [first, second] = [await context.newPage(), await context.newPage()];
    const price = () => second.locator("#prices td").first().innerText();
    for (const page of [first, second]) await page.goto(`${dev.origin}/examples/ticker.html`);
    const changes = async (why: string) => {
      await until(why, async () => /\d/.test(await price()));
      const before = await price();
      await until(why, async () => (await price()) !== before);
    };
    await changes("prices come");
    await first.close();
    await changes("prices go on");
    await context.close();
    await done("ticker", await two("ticker"));
  });

  test("log: what is logged while it is stopped comes when it goes on", async () => {
    const [ana, ben] = await two("log");
    await ana.page.locator("#text").fill("began");
    await ana.page.locator("#write button").click();
    await until("both have it", async () => /shop: began/.test(await ana.text("#lines")) && /shop: began/.test(await ben.text("#lines")));
    await ben.page.locator("#pause").click();
    for (let n = 0; n < 20; n += 1) await dev.publish("demo.log.disk", { level: "warn", text: `line ${n}` });
    await until("ana has all", async () => /line 19/.test(await ana.text("#lines")));
    assert.doesNotMatch(await ben.text("#lines"), /line/);
    await ben.page.locator("#pause").click();
    await until("ben has all", async () => /line 0\b[^]*line 19/.test(await ben.text("#lines")));
    assert.doesNotMatch(await ben.text("#lines"), /missing/);
    await ben.page.locator("#filter").fill("line 1");
    assert.match(await ben.text("#shown"), /^11 of 21/);
    await done("log", [ana, ben]);
  });
});
