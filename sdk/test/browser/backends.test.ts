// The snippets of `backends/`: what each of them publishes arrives in a browser, which comes with the Token that its
// neighbour mints.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { Browser } from "playwright-core";
import { Gateway, missing, Nats, PROGRAM, SECRET, until } from "../servers.ts";
import { Site } from "./site.ts";
import type { Window } from "./site.ts";
import { isProgram, launch, skip } from "./stage.ts";

const execute = promisify(execFile);
const FOLDER = join(import.meta.dirname, "../../backends");
/** Where clients of NATS are brought to, once. */
const TOOLS = join(import.meta.dirname, "../../../target/tools/backends");
/** A registry may be slow, and a compiler on a cold cache. */
const FETCH_MS = 300_000;
const RUN_MS = 120_000;

type Command = readonly [program: string, ...args: string[]];

interface Language {
  /** What must be on the path, beside what fetches. */
  readonly programs: readonly string[];
  /** Brings its client of NATS into a copy of its folder, and compiles. */
  readonly fetch: Command;
  readonly mint: Command;
  readonly http: Command;
  readonly nats: Command;
  /** Nobody is asked to have it; without what fetches, it does without NATS. */
  readonly optional?: true;
}

const LANGUAGES: Record<string, Language> = {
  go: {
    programs: [],
    fetch: ["go", "build", "-o", "bin/", "./..."],
    mint: ["bin/mint-token"],
    http: ["bin/publish-http"],
    nats: ["bin/publish-nats"],
  },
  python: {
    programs: [],
    fetch: ["python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "packages", "--requirement", "requirements.txt"],
    mint: ["python3", "mint_token.py"],
    http: ["python3", "publish_http.py"],
    nats: ["python3", "publish_nats.py"],
  },
  node: {
    programs: ["node"],
    fetch: ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"],
    mint: ["node", "mint-token.js"],
    http: ["node", "publish-http.js"],
    nats: ["node", "publish-nats.js"],
  },
  java: {
    programs: ["java", "javac"],
    fetch: ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
    mint: ["java", "-cp", "lib/*", "MintToken.java"],
    http: ["java", "PublishHttp.java"],
    nats: ["java", "-cp", "lib/*", "PublishNats.java"],
  },
  php: {
    programs: ["php"],
    fetch: ["composer", "install", "--quiet", "--no-interaction"],
    mint: ["php", "mint-token.php"],
    http: ["php", "publish-http.php"],
    nats: ["php", "publish-nats.php"],
    optional: true,
  },
};

/** What is not on the path, in words. With `ALL_TESTS` nothing may be missing but what is optional. */
function absent({ programs, fetch: [fetches], optional }: Language): string | false {
  const program = (optional ? programs : [...programs, fetches]).find((program) => !isThere(program));
  const why = program !== undefined && `no ${program} on the path`;
  if (why && !optional && process.env["ALL_TESTS"]) throw new Error(why);
  return why;
}

function isThere(program: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => isProgram(join(folder, program)));
}

/** A copy of the language's folder with all that it needs, made anew when the folder has changed. Throws if it cannot be brought. */
async function prepared(name: string, { fetch: [program, ...args] }: Language): Promise<string> {
  const [from, place] = [join(FOLDER, name), join(TOOLS, name)];
  const files = (await readdir(from, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const texts = await Promise.all(files.map(async (file) => `${file.name}\n${await readFile(join(file.parentPath, file.name), "utf8")}`));
  const now = texts.sort().join("\n");
  const mark = join(place, ".prepared");
  if ((await readFile(mark, "utf8").catch(() => undefined)) === now) return place;
  await rm(place, { recursive: true, force: true });
  await mkdir(place, { recursive: true });
  await cp(from, place, { recursive: true });
  if (!isThere(program)) return place;
  await execute(program, args, { cwd: place, timeout: FETCH_MS });
  await writeFile(mark, now);
  return place;
}

/** What passes through NATS on one subject. */
class Tap {
  readonly #socket: Socket;
  #text = "";

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8").on("data", (text: string) => (this.#text += text));
  }

  static async start(url: string, subject: string): Promise<Tap> {
    const { hostname, port } = new URL(url);
    const tap = new Tap(connect(Number(port), hostname));
    tap.#socket.write(`CONNECT {"verbose":false,"headers":true}\r\nSUB ${subject} 1\r\nPING\r\n`);
    await until("NATS listens", () => tap.#text.includes("PONG\r\n"));
    return tap;
  }

  /** The headers of all that came. */
  get headers(): Record<string, string>[] {
    return [...this.#text.matchAll(/^NATS\/1\.0\r\n([^]*?)\r\n\r\n/gm)].map(([, lines = ""]) =>
      Object.fromEntries(lines.split("\r\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()])),
    );
  }

  stop(): void {
    this.#socket.destroy();
  }
}

describe("a backend", { skip: skip() || (missing() ?? false) }, () => {
  let site: Site;
  let nats: Nats;
  let gateway: Gateway;
  let browser: Browser;
  let folder: string;
  let environment: NodeJS.ProcessEnv;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "tidegate-backends-"));
    const secret = join(folder, "secret");
    await writeFile(secret, SECRET);
    const { stdout } = await execute(PROGRAM, ["token", "--api-key", "orders", "--publish", "orders.>"]);
    const [key = "", entry = ""] = stdout.split("\n");
    [site, nats, browser] = await Promise.all([Site.start(), Nats.start(), launch()]);
    gateway = await Gateway.start({ nats: nats.url, origins: [site.origin], apiKey: entry });
    const ours = { TIDEGATE_URL: gateway.origin, TIDEGATE_KEY: key, TIDEGATE_SECRET_FILE: secret, NATS_URL: nats.url };
    environment = { ...process.env, ...ours, PYTHONPATH: "packages" };
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
    await nats?.stop();
    await site?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** The id that the gateway makes of the key of the HTTP snippets: they all publish the same. */
  let id: string | undefined;

  for (const [name, language] of Object.entries(LANGUAGES)) {
    test(`in ${name} is heard in a browser, over HTTP and over NATS`, { skip: absent(language) }, async (t) => {
      const cwd = await prepared(name, language).catch((cause: unknown) => {
        if (process.env["ALL_TESTS"]) throw cause;
        t.skip(`what it needs cannot be fetched: ${String(cause).split("\n")[0]}`);
      });
      if (cwd === undefined) return;
      const run = async ([program, ...args]: Command) =>
        (await execute(program, args, { cwd, env: environment, timeout: RUN_MS })).stdout.trim();

      const token = await run(language.mint);
      const page = await site.open(await browser.newPage());
      await page.evaluate((options) => (globalThis as unknown as Window).watch(options, "orders.>"), { url: gateway.origin, token });
      const seen = () => page.evaluate(() => (globalThis as unknown as Window).seen.map(({ data }) => data));
      const tap = await Tap.start(nats.url, "tidegate.in.orders.17");
      t.after(() => tap.stop());

      await run(language.http);
      await until("what came over HTTP is there", async () => (await seen()).length > 0);
      assert.deepEqual(await seen(), [{ id: 17, state: "paid" }]);
      id ??= tap.headers[0]?.["Nats-Msg-Id"];
      assert.ok(id);
      assert.equal(tap.headers[0]?.["Nats-Msg-Id"], id);

      if (isThere(language.fetch[0])) {
        await run(language.nats);
        await until("what came over NATS is there", async () => (await seen()).length > 1);
        assert.deepEqual((await seen()).slice(1), [{ id: 17, state: "shipped" }]);
        assert.equal(tap.headers[1]?.["Nats-Msg-Id"], "order-17-shipped");
        assert.match(tap.headers[1]?.["traceparent"] ?? "", /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
      } else {
        t.diagnostic(`SKIPPED over NATS: no ${language.fetch[0]} on the path, so no client of NATS`);
      }
      await page.close();
    });
  }
});
