// Real gateways and a real nats-server on free ports of this machine, which end with the test.

import { spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

const root = join(import.meta.dirname, "../../..");
const SECRET = "a secret of the tests, 32 bytes or more";
/** Generous: the machines of continuous integration are slow. */
const SOON_MS = 60_000;

export interface Gateway {
  readonly url: string;
  readonly process: ChildProcess;
}

/** `tidegate dev`: everything below `demo.` is kept, and open to everybody. */
export async function dev(t: TestContext): Promise<Gateway> {
  const port = await freePort();
  return gateway(t, port, ["dev", "--listen", `127.0.0.1:${port}`]);
}

/** `tidegate serve`, with `dash` kept; on this NATS, if there is one. */
export async function serve(t: TestContext, nats?: string): Promise<Gateway> {
  const [port, management, folder] = [await freePort(), await freePort(), temporary(t)];
  const lines = [
    `listen: 127.0.0.1:${port}`,
    `management: 127.0.0.1:${management}`,
    "shards: 2",
    ...(nats === undefined ? [] : [`nats: {url: "${nats}"}`]),
    "namespaces: {dash: {history: {messages: 1000, age: 10m}}}",
    `auth: {issuers: [{algorithm: HS256, key_file: "${join(folder, "secret")}"}]}`,
    "drain: {lame_duck: 0s, window: 1s}",
  ];
  writeFileSync(join(folder, "secret"), SECRET);
  writeFileSync(join(folder, "tidegate.yaml"), `${lines.join("\n")}\n`);
  return gateway(t, port, ["serve", "--config", join(folder, "tidegate.yaml")], management);
}

async function gateway(t: TestContext, port: number, args: string[], management?: number): Promise<Gateway> {
  const child = run(t, join(root, "target/debug/tidegate"), args);
  const url = `http://127.0.0.1:${port}`;
  const health = management === undefined ? `${url}/` : `http://127.0.0.1:${management}/health/ready`;
  await until("the gateway is ready", async () => (await fetch(health)).ok);
  return { url, process: child };
}

/** A nats-server with JetStream. */
export async function natsWithStreams(t: TestContext): Promise<string> {
  const [port, monitor] = [await freePort(), await freePort()];
  const binary = process.env["NATS_SERVER"] ?? join(root, "target/tools/python/bin/nats-server");
  run(t, binary, ["-a", "127.0.0.1", "-p", `${port}`, "-m", `${monitor}`, "-js", "-sd", temporary(t)]);
  await until("nats-server is ready", async () => (await fetch(`http://127.0.0.1:${monitor}/healthz`)).ok);
  return `nats://127.0.0.1:${port}`;
}

/** One address before several gateways: each connection goes to the first of them, just then, that takes it. */
export async function balancer(t: TestContext, gateways: readonly Gateway[]): Promise<string> {
  const forward = (socket: Socket, [first, ...others]: readonly Gateway[]): void => {
    if (!first) return void socket.destroy();
    const upstream = connect(Number(new URL(first.url).port), "127.0.0.1");
    upstream.on("connect", () => {
      socket.pipe(upstream).pipe(socket);
      upstream.on("close", () => socket.destroy());
      socket.on("close", () => upstream.destroy());
    });
    upstream.once("error", () => (upstream.pending ? forward(socket, others) : socket.destroy()));
  };
  const server = createServer((socket) => {
    socket.on("error", () => {});
    forward(socket, gateways);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export interface Cable {
  readonly url: string;
  /** Where it leads; for those who come from now on. */
  to: { readonly url: string };
  /** Breaks all connections, without a word. */
  cut(): void;
}

/** One address before one gateway. */
export async function cable(t: TestContext, to: { readonly url: string }): Promise<Cable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const upstream = connect(Number(new URL(cable.to.url).port), "127.0.0.1");
    sockets.add(socket.pipe(upstream).pipe(socket));
    upstream.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const cable = {
    to,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut: () => sockets.forEach((socket) => socket.destroy()),
  };
  t.after(() => {
    cable.cut();
    server.close();
  });
  return cable;
}

/** A Token with every verb on everything, or on some. */
export function token(lifeSeconds = 3_600, sub = "ana", all = [">"]): string {
  const claims = {
    sub,
    exp: Math.floor(Date.now() / 1_000) + lifeSeconds,
    permissions: { subscribe: all, publish: all, history: all },
  };
  const part = (json: object): string => Buffer.from(JSON.stringify(json)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** Publishes as a backend does: who is too fast waits as it is told. */
export async function publish(gateway: string, topic: string, data: unknown, bearer?: string): Promise<void> {
  const headers: HeadersInit = bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` };
  for (;;) {
    const response = await fetch(`${gateway}/v1/topics/${topic}/messages`, {
      method: "POST",
      body: JSON.stringify(data),
      headers,
    });
    if (response.ok) return;
    const text = await response.text();
    if (response.status !== 429) throw new Error(`${response.status}: ${text}`);
    const { retry_after_ms } = JSON.parse(text) as { retry_after_ms: number };
    await new Promise((resolve) => setTimeout(resolve, retry_after_ms));
  }
}

/** Waits for a condition; what throws is not there yet. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = SOON_MS,
): Promise<void> {
  const end = Date.now() + withinMs;
  for (;;) {
    const held = await Promise.resolve()
      .then(holds)
      .catch(() => false);
    if (held) return;
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((again) => setTimeout(again, 20));
  }
}

function run(t: TestContext, binary: string, args: string[]): ChildProcess {
  const child = spawn(binary, args, { stdio: ["ignore", "ignore", "ignore"] });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  });
  return child;
}

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-sdk-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}
