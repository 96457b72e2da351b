// A page of an application, on an origin of its own, beside the gateways: what browser tests run their code in.

import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import type { Page } from "playwright-core";
import type * as everything from "../../src/everything.ts";

const HERE = import.meta.dirname;

/** What a page has of the client. `sdk` is all of it, and `seen` what a Subscription of `watch` has seen. */
export interface Window {
  sdk: typeof everything;
  client: everything.Client;
  states: string[];
  seen: { data: unknown; replayed: boolean }[];
  gaps: string[];
  /** Why a Token was asked for. */
  reasons: string[];
  watch(options: WatchOptions, pattern: string, from?: everything.From): Promise<string>;
}

/** Beside the client's own: what cannot be handed to a page as it is. */
export interface WatchOptions extends Pick<everything.ClientOptions, "url" | "token" | "hidden"> {
  /** Shares by this worker. */
  worker?: string | undefined;
  /** Keeps Cursors over a reload. */
  remember?: boolean;
  /** Asks the test for Tokens, by the function `mint` that it has exposed. */
  mint?: boolean;
}

/** In the page: a client, what it goes through, and one Subscription. */
const SCRIPT = `
  import * as sdk from "/tidegate.js";
  Object.assign(globalThis, { sdk, states: [], seen: [], gaps: [], reasons: [] });
  globalThis.watch = async ({ worker, remember, mint, ...options }, pattern, from) => {
    if (worker) options.transports = [sdk.shared({ worker })];
    if (remember) options.cursors = sdk.sessionCursors();
    if (mint) options.token = ({ reason }) => (reasons.push(reason), globalThis.mint(reason));
    globalThis.client ??= sdk.createClient(options);
    client.on("state", (state) => states.push(state));
    const subscription = client.pattern(pattern).subscribe(({ data, replayed }) => seen.push({ data, replayed }), { from });
    subscription.on("gap", ({ reason }) => gaps.push(reason));
    globalThis.subscription = subscription;
    await subscription.ready;
    return client.connection.id;
  };
`;

/** Serves that page at every path without a dot, and the client as it is built now. */
export class Site {
  readonly #server: Server;
  readonly #files = new Map<string, string>();

  private constructor() {
    this.#server = createServer((request, answer) => {
      const { pathname } = new URL(request.url ?? "", this.origin);
      const script = this.#files.get(pathname);
      if (script === undefined && pathname.includes(".")) return void answer.writeHead(404).end();
      answer.setHeader("Content-Type", script === undefined ? "text/html" : "text/javascript");
      answer.end(script ?? `<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>`);
    });
  }

  static async start(more: Record<string, string> = {}): Promise<Site> {
    const site = new Site();
    const entry = join(HERE, "../../src/everything.ts");
    const { outputFiles } = await build({ entryPoints: [entry], bundle: true, minify: true, format: "esm", target: "es2022", write: false });
    site.#files.set("/tidegate.js", outputFiles[0]?.text ?? "");
    site.#files.set("/page.js", SCRIPT);
    for (const [path, script] of Object.entries(more)) site.#files.set(path, script);
    await new Promise<void>((listening) => site.#server.listen(0, "127.0.0.1", listening));
    return site;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Goes there, and waits until the client is loaded. */
  async open(page: Page, path = "/"): Promise<Page> {
    await page.goto(this.origin + path);
    await page.waitForFunction(() => "watch" in globalThis);
    return page;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }
}
