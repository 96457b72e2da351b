// What browser tests stand on: a gateway of `tidegate dev`, a Chromium, and a page that is watched.

import { spawn, type ChildProcess } from "node:child_process";
import { accessSync, constants, mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";

const ROOT = join(import.meta.dirname, "../../..");
/** The debug build, or what TIDEGATE names. */
const PROGRAM = process.env["TIDEGATE"] ?? join(ROOT, "target/debug/tidegate");
const NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const SOON_MS = 30_000;

/** Where pictures go, for people to look at. */
export const PICTURES = join(ROOT, "target/screenshots");

/** The first Chromium on the path. */
export const CHROMIUM: string | undefined = (process.env["PATH"] ?? "")
  .split(delimiter)
  .flatMap((folder) => NAMES.map((name) => join(folder, name)))
  .find(isProgram);

/** What is missing for these tests, in words; `false` if all is there. With `ALL_TESTS` nothing may be missing. */
export function skip(): string | false {
  const why = CHROMIUM === undefined ? "no Chromium on the path (install chromium)" : isProgram(PROGRAM) ? false : `no ${PROGRAM} (cargo build)`;
  if (why && process.env["ALL_TESTS"]) throw new Error(why);
  return why;
}

export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}

/** `tidegate dev` on a free port. */
export class Dev {
  readonly origin: string;
  readonly #process: ChildProcess;

  private constructor(origin: string, process: ChildProcess) {
    this.origin = origin;
    this.#process = process;
  }

  static async start(port?: number): Promise<Dev> {
    port ??= await freePort();
    const child = spawn(PROGRAM, ["dev", "--listen", `127.0.0.1:${port}`], { stdio: ["ignore", "ignore", "inherit"] });
    const dev = new Dev(`http://127.0.0.1:${port}`, child);
    await until("dev is there", async () => (await fetch(`${dev.origin}/dev/info`).catch(() => undefined))?.ok === true);
    return dev;
  }

  /** Publishes as a backend would. */
  async publish(topic: string, data: unknown): Promise<void> {
    const answer = await fetch(`${this.origin}/v1/topics/${topic}/messages`, { method: "POST", body: JSON.stringify(data) });
    if (!answer.ok) throw new Error(`publishing is answered ${answer.status}`);
  }

  async stop(): Promise<void> {
    const ended = new Promise((ended) => this.#process.once("exit", ended));
    this.#process.kill("SIGKILL");
    await ended;
  }
}

/** A root may not use Chromium's sandbox. */
export function launch(): Promise<Browser> {
  mkdirSync(PICTURES, { recursive: true });
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: CHROMIUM!, args: [...args, "--disable-dev-shm-usage"] });
}

/** A page, and what it should not have done. */
export class Watched {
  readonly page: Page;
  /** Errors and warnings of the console, faults of scripts, and requests to other hosts. */
  readonly faults: string[] = [];

  private constructor(page: Page, origin: string) {
    this.page = page;
    page.setDefaultTimeout(SOON_MS);
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") this.faults.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.faults.push(`fault: ${error.message}`));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin) this.faults.push(`request: ${request.url()}`);
    });
    page.on("websocket", (socket) => {
      if (new URL(socket.url()).host !== new URL(origin).host) this.faults.push(`socket: ${socket.url()}`);
    });
  }

  static async open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Watched> {
    const context = await browser.newContext(options);
    const watched = new Watched(await context.newPage(), new URL(url).origin);
    await watched.page.goto(url);
    return watched;
  }

  text(selector: string): Promise<string> {
    return this.page.locator(selector).innerText();
  }

  close(): Promise<void> {
    return this.page.context().close();
  }
}

/** Waits for something that will be so soon. */
export async function until(what: string, so: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + SOON_MS; Date.now() < end; ) {
    if (await so()) return;
    await new Promise((later) => setTimeout(later, 50));
  }
  throw new Error(`not in time: ${what}`);
}
