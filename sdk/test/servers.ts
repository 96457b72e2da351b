// Real servers on free ports of this machine: gateways, NATS, and a balancer in front of them.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { accessSync, constants, openSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
/** The debug build, or what TIDEGATE names. */
export const PROGRAM = process.env["TIDEGATE"] ?? join(ROOT, "target/debug/tidegate");
/** What `make tools` installs, or what NATS_SERVER names. */
const NATS_SERVER = process.env["NATS_SERVER"] ?? join(ROOT, "target/tools/python/bin/nats-server");
/** What Tokens are signed with. */
export const SECRET = "a secret of the tests, 32 bytes or more";
const SOON_MS = 30_000;

/** What is missing for these tests, in words; nothing if all is there. */
export function missing(): string | undefined {
  for (const [program, how] of [[PROGRAM, "cargo build"], [NATS_SERVER, "make tools"]] as const) {
    try {
      accessSync(program, constants.X_OK);
    } catch {
      return `no ${program} (${how})`;
    }
  }
  return undefined;
}

/** Waits for something that will be so soon. */
export async function until(what: string, so: () => boolean | Promise<boolean>, limitMs = SOON_MS): Promise<void> {
  for (const end = Date.now() + limitMs; Date.now() < end; await pause(20)) if (await so()) return;
  throw new Error(`not in time: ${what}`);
}

export function pause(ms: number): Promise<void> {
  return new Promise((later) => setTimeout(later, ms));
}

/** A Token for everything, unless it says less. */
export function token(sub: string, lifeSeconds = 3_600, patterns: readonly string[] = ["kept.>", "open.>"]): string {
  const now = Math.floor(Date.now() / 1_000);
  const permissions = { subscribe: patterns, publish: patterns, history: patterns };
  const part = (about: object): string => Buffer.from(JSON.stringify(about)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, exp: now + lifeSeconds, permissions })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

/** A process with a folder of its own. */
class Program {
  readonly #program: string;
  readonly #arguments: readonly string[];
  readonly #folder: string;
  #process: ChildProcess | undefined;

  constructor(program: string, folder: string, ...args: string[]) {
    this.#program = program;
    this.#folder = folder;
    this.#arguments = args;
  }

  run(): void {
    const log = openSync(join(this.#folder, "log"), "a");
    this.#process = spawn(this.#program, this.#arguments, { stdio: ["ignore", log, log] });
  }

  get log(): string {
    return readFileSync(join(this.#folder, "log"), "utf8");
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const process = this.#process;
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = new Promise((ended) => process.once("exit", ended));
    process.kill(signal);
    await ended;
  }

  async remove(): Promise<void> {
    await this.end("SIGKILL");
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** One nats-server that keeps streams. */
export class Nats {
  readonly url: string;
  readonly #program: Program;

  private constructor(url: string, program: Program) {
    this.url = url;
    this.#program = program;
  }

  static async start(): Promise<Nats> {
    const folder = await mkdtemp(join(tmpdir(), "tidegate-nats-"));
    const [client, monitor] = [await freePort(), await freePort()];
    const file = join(folder, "nats.conf");
    await writeFile(file, `listen: "127.0.0.1:${client}"\nhttp: "127.0.0.1:${monitor}"\njetstream { store_dir: "${folder}" }\n`);
    const program = new Program(NATS_SERVER, folder, "-c", file);
    program.run();
    const healthy = () => fetch(`http://127.0.0.1:${monitor}/healthz?js-enabled-only=true`).then(({ ok }) => ok, () => false);
    await until("NATS is healthy", healthy);
    return new Nats(`nats://127.0.0.1:${client}`, program);
  }

  stop(): Promise<void> {
    return this.#program.remove();
  }
}

export interface GatewayOptions {
  /** In memory, if there is none. */
  nats?: string;
  /** Pages that may connect. */
  origins?: readonly string[];
  /** More lines of configuration. */
  lines?: readonly string[];
  /** The entry of an API key. */
  apiKey?: string;
  /** A port of its own choice, if there is none. */
  port?: number;
}

/** A gateway that keeps `kept.>`, and does not keep `open.>`; everybody may do everything there. */
export class Gateway {
  readonly port: number;
  readonly origin: string;
  readonly #management: string;
  readonly #program: Program;

  private constructor(port: number, management: string, program: Program) {
    this.port = port;
    this.origin = `http://127.0.0.1:${port}`;
    this.#management = management;
    this.#program = program;
  }

  static async start({ nats, origins = [], lines = [], apiKey, port }: GatewayOptions = {}): Promise<Gateway> {
    const folder = await mkdtemp(join(tmpdir(), "tidegate-node-"));
    const [client, management] = [port ?? (await freePort()), await freePort()];
    const all = '["kept.>", "open.>"]';
    const config = [
      `listen: 127.0.0.1:${client}`,
      `management: 127.0.0.1:${management}`,
      "shards: 2",
      ...(nats === undefined ? [] : [`nats: {url: "${nats}"}`]),
      "namespaces: {kept: {history: {messages: 100000, age: 10m, storage: memory}}}",
      "auth:",
      `  issuers: [{algorithm: HS256, key_file: "${join(folder, "secret")}"}]`,
      `  origins: ${JSON.stringify(origins)}`,
      ...(apiKey === undefined ? [] : [`  api_keys_file: "${join(folder, "keys")}"`]),
      `  anonymous: {subscribe: ${all}, publish: ${all}, history: ${all}}`,
      ...(lines.some((line) => line.startsWith("drain")) ? [] : ["drain: {lame_duck: 0s, window: 0s}"]),
      ...lines,
    ];
    const file = join(folder, "tidegate.yaml");
    await writeFile(join(folder, "secret"), SECRET);
    if (apiKey !== undefined) await writeFile(join(folder, "keys"), apiKey);
    await writeFile(file, config.join("\n"));
    const gateway = new Gateway(client, `http://127.0.0.1:${management}`, new Program(PROGRAM, folder, "serve", "--config", file));
    await gateway.run();
    return gateway;
  }

  /** Again, on the same ports. */
  async run(): Promise<void> {
    this.#program.run();
    const ready = () => fetch(`${this.#management}/health/ready`).then(({ ok }) => ok, () => false);
    await until("the gateway is ready", ready).catch((cause: unknown) => {
      throw new Error(this.log, { cause });
    });
  }

  get log(): string {
    return this.#program.log;
  }

  /** What its Shards count. */
  async status(): Promise<Record<"connections" | "subscriptions", number>> {
    return (await (await fetch(`${this.#management}/status`)).json()) as Record<"connections" | "subscriptions", number>;
  }

  /** How many are connected. */
  async connections(): Promise<number> {
    return (await this.status()).connections;
  }

  /** Publishes as a backend would. */
  async publish(topic: string, data: unknown): Promise<void> {
    const answer = await fetch(`${this.origin}/v1/topics/${topic}/messages`, { method: "POST", body: JSON.stringify(data) });
    if (!answer.ok) throw new Error(`publishing is answered ${answer.status}: ${await answer.text()}`);
  }

  /** The same, many in one request. */
  async publishAll(messages: readonly { topic: string; data: unknown }[]): Promise<void> {
    const answer = await fetch(`${this.origin}/v1/publish`, { method: "POST", body: JSON.stringify({ messages }) });
    if (!answer.ok) throw new Error(`publishing is answered ${answer.status}: ${await answer.text()}`);
  }

  /** Says goodbye to everybody. */
  async drain(): Promise<void> {
    await fetch(`${this.#management}/drain`, { method: "POST" });
  }

  kill(): Promise<void> {
    return this.#program.end("SIGKILL");
  }

  stop(): Promise<void> {
    return this.#program.remove();
  }
}

/** Passes on whoever connects to the next of several ports, in turn. */
export class Balancer {
  readonly ports: Set<number>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #turn = 0;

  private constructor(ports: readonly number[]) {
    this.ports = new Set(ports);
    this.#server = createServer((client) => this.#pass(client));
  }

  static async start(...ports: number[]): Promise<Balancer> {
    const balancer = new Balancer(ports);
    await new Promise<void>((listening) => balancer.#server.listen(0, "127.0.0.1", listening));
    return balancer;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Ends every connection without a goodbye. (A reset would be truer, but Node 24 may then never end.) */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((closed) => this.#server.close(closed));
  }

  #pass(client: Socket): void {
    const ports = [...this.ports];
    this.#turn += 1;
    const port = ports[this.#turn % ports.length];
    if (port === undefined) return void client.destroy();
    const server = connect(port, "127.0.0.1");
    for (const [one, other] of [[client, server], [server, client]] as const) {
      this.#sockets.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
  }
}
