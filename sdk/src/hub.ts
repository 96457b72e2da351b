// The worker that all tabs share: it has the one connection, and answers each tab's Commands as a node would.
//
// A tab's Link ends at its Desk. A Hub is one client and the Desks of those who may share it: their Tokens name the
// same user and Grants. Its client lives as long as its connection, moves between nodes included, and does not come
// back: every tab hears how it ended, as if the socket had been its own, and comes back when it has to, with a fresh
// Token if one is wanted. The first that does makes the next Hub.
//
// LAW: a message goes to one Subscription of one tab, as a part of its own, never to all that match: two Subscriptions
// of the client may have come differently far.

import { Alarm } from "./alarm.ts";
import { Core } from "./client.ts";
import type { Connection } from "./client.ts";
import { LOST } from "./close.ts";
import { CLIENT } from "./codec.ts";
import type { Command, ConnectedFrame, ErrorFrame, Frame, MessageFrame, WireFrom } from "./codec.ts";
import { EPOCH_CHANGED } from "./cursor.ts";
import { TidegateError, Unauthorized } from "./error.ts";
import type { Publication } from "./publication.ts";
import type { Opening } from "./shared.ts";
import type { Ready, Subscription } from "./subscription.ts";
import type { TokenProvider } from "./token.ts";

/** How many posts a tab may be behind, and after how many it is asked whether it is. */
const BEHIND_MAX = 16_384;
const ASK_EVERY = 1_024;
/** Tokens of two tabs that were asked for together end together, or nearly so: the second one renews nothing. */
const LATER_S = 10;
const FROZEN = new TidegateError("slow_consumer", "", { retryable: true });

/** Serves whoever connects to this worker. */
export function serveTabs(worker: { onconnect?: (event: MessageEvent) => void }): void {
  const hubs = new Map<string, Hub>();
  worker.onconnect = ({ ports: [port] }) => void (port && new Desk(port, hubs));
}

/** One client, and who shares it. */
class Hub {
  readonly desks = new Set<Desk>();
  readonly client: Core;
  /** Whether the node reaches the others. */
  bus = true;
  #token: string | undefined;
  /** Whether the Token is one that the client does not know yet. */
  #fresh = true;
  /** Hands it over, if the client waits for it. */
  #renewed: (() => void) | undefined;

  constructor(url: string, token: string | undefined, ended: () => void) {
    this.#token = token;
    const take = (): string => {
      this.#fresh = false;
      return this.#token as string;
    };
    const provide: TokenProvider = ({ reason, signal }) => {
      if (reason === "rejected") throw new Unauthorized(); // The tabs will bring another one.
      if (reason === "connect" || this.#fresh) return take();
      return new Promise((resolve) => (this.#renewed = () => void (signal.aborted || resolve(take()))));
    };
    this.client = new Core({ url, ...(token && { token: provide }), retry: { maxAttempts: 0 } });
    this.client.on("state", (state) => {
      if (state === "closed") ended();
      for (const desk of this.desks) desk.welcome();
    });
    this.client.on("bus", ({ connected }) => {
      this.bus = connected;
      this.tell({ type: "bus", connected });
    });
    this.client.on("error", (error) => {
      if (this.client.state === "closed") for (const desk of [...this.desks]) desk.end(error);
      else if (error.code !== "unauthenticated") this.tell(refused(error));
    });
    this.client.connect().catch(() => {}); // The error that it was has been told.
  }

  /** A tab has renewed its Token. */
  offer(token: string): void {
    if (!(expiry(token) - expiry(this.#token) >= LATER_S)) return;
    this.#token = token;
    this.#fresh = true;
    this.#renewed?.();
    this.#renewed = undefined;
  }

  tell(...frames: Frame[]): void {
    for (const desk of this.desks) desk.say(...frames);
  }
}

/** One Subscription of a tab. */
interface Held {
  readonly subscription: Subscription;
  /** Says where it is, if the tab knows of it at all: else its place would grow old while nothing comes. */
  tell(): void;
}

/** Where one tab's Link ends. */
class Desk {
  readonly #port: MessagePort;
  readonly #hubs: Map<string, Hub>;
  #url = "";
  #hub: Hub | undefined;
  readonly #held = new Map<string, Held>();
  /** Of its `connect`. */
  #id = 0;
  /** The last that the tab was told of. */
  #connection: Connection | undefined;
  readonly #beat = new Alarm(() => this.#beats());
  #heard = true;
  /** Posts since the tab's last word. */
  #behind = 0;

  constructor(port: MessagePort, hubs: Map<string, Hub>) {
    this.#port = port;
    this.#hubs = hubs;
    port.onmessage = ({ data }: MessageEvent<Opening | Command>) => {
      this.#heard = true;
      this.#behind = 0;
      if ("lock" in data) this.#open(data);
      else this.#answer(data);
    };
    port.postMessage(CLIENT);
  }

  say(...frames: Frame[]): void {
    this.#behind += 1;
    if (this.#behind > BEHIND_MAX) return this.end(FROZEN);
    if (this.#behind % ASK_EVERY === 0) frames.push({ type: "ping" });
    this.#port.postMessage(frames);
  }

  end({ code, retryable: retry, retryAfterMs: ms }: TidegateError): void {
    this.#port.postMessage({ ...LOST, reason: JSON.stringify({ code, retry, ms }) });
    this.#close();
  }

  /** The tab has gone, or its Link has. */
  #close(): void {
    this.#beat.clear();
    this.#port.onmessage = null;
    this.#port.close();
    for (const { subscription } of this.#held.values()) void subscription.unsubscribe();
    this.#hub?.desks.delete(this);
    if (this.#hub?.desks.size === 0) void this.#hub.client.close();
  }

  /** The tab holds that lock as long as the Link lives. */
  #open({ lock, url }: Opening): void {
    this.#url = url;
    void navigator.locks.request(lock, () => this.#close());
  }

  #answer(command: Command): void {
    const client = this.#hub?.client;
    if (command.type === "connect") return this.#connect(command.id, command.token);
    if (!client) return;
    switch (command.type) {
      case "subscribe":
        for (const { topic, from } of command.topics) this.#subscribe(client, command.id, topic, from);
        return;
      case "unsubscribe":
        void this.#held.get(command.topic)?.subscription.unsubscribe();
        this.#held.delete(command.topic);
        return this.say({ type: "unsubscribed", id: command.id, topic: command.topic });
      case "publish":
      case "history": {
        const { id, ...ask } = command;
        return void client.ask(ask).then(
          (answer) => this.say({ ...answer, id }),
          (error: TidegateError) => this.say({ ...refused(error), id }),
        );
      }
      case "token":
        this.#hub?.offer(command.token);
        return this.#hub?.tell({ type: "token", id: command.id, expires_at: new Date(expiry(command.token) * 1_000).toISOString() });
      case "ping":
        client.on("latency", () => this.say({ type: "pong", id: command.id }), { once: true });
        return client.awake();
    }
  }

  #connect(id: number, token: string | undefined): void {
    const { sub, permissions } = claims(token);
    const key = JSON.stringify([this.#url, sub, permissions]);
    const hub = this.#hubs.get(key) ?? new Hub(this.#url, token, () => this.#hubs.delete(key));
    this.#hubs.set(key, hub);
    this.#hub = hub;
    hub.desks.add(this);
    this.#id = id;
    this.welcome();
  }

  /** Once there is a connection, and again whenever it is another one. */
  welcome(): void {
    const connection = this.#hub?.client.connection;
    if (!connection || connection === this.#connection) return;
    this.#connection = connection;
    this.say(connected(connection, this.#id));
    if (this.#hub?.bus === false) this.say({ type: "bus", connected: false });
    this.#beat.set(connection.heartbeatMs);
  }

  #beats(): void {
    if (!this.#heard) return this.end(FROZEN);
    this.#heard = false;
    this.say({ type: "ping" });
    for (const { tell } of this.#held.values()) tell();
    this.welcome();
    this.#beat.set(this.#connection?.heartbeatMs ?? 0);
  }

  #subscribe(client: Core, id: number, topic: string, from: WireFrom): void {
    let begun = false;
    let lost: string | undefined;
    /** Its place in a history that is no more: no news to the tab. */
    let left: string | undefined;
    const say = (publication?: Publication): void => {
      begun = true;
      const { cursor } = publication ?? subscription;
      const more = subscription.state !== "live";
      const part = publication ? [{ ...publication, type: "message" } as unknown as MessageFrame] : [];
      this.say({ type: "subscribed", id, topic, cursor, recovered: !lost, reason: lost, replayed: part.length, more }, ...part);
      lost = undefined;
    };
    const tell = (): void => {
      if (!begun) return;
      if (!left || subscription.cursor !== left) return say();
      this.say({ type: "replay", topic, replayed: 0, more: subscription.state !== "live" });
    };
    const subscription = client.subscribe(topic, from, say, {});
    this.#held.set(topic, { subscription, tell });
    subscription.on("state", (state) => state === "live" && tell());
    subscription.on("gap", ({ reason, missed, resumed }) => {
      if (reason === EPOCH_CHANGED) left = subscription.cursor;
      if (begun && !resumed) return this.say({ type: "gap", topic, reason, missed });
      lost ??= reason;
      tell();
    });
    subscription.on("error", (error) => {
      if (subscription.state !== "ended") return;
      this.say(begun ? { type: "unsubscribed", topic, code: error.code } : { ...refused(error), id, topic });
    });
    const first = ({ reason }: Ready): void => {
      if (begun) return;
      lost = reason;
      say();
    };
    subscription.ready.then(first, () => {}); // An error says why.
  }
}

function connected({ id: connection, node, expiresAt, heartbeatMs, limits }: Connection, id: number): ConnectedFrame {
  return {
    type: "connected",
    id,
    connection,
    node,
    expires_at: expiresAt?.toISOString(),
    heartbeat_ms: heartbeatMs,
    limits: {
      message_bytes: limits.messageBytes,
      subscriptions: limits.subscriptions,
      commands_per_second: limits.commandsPerSecond,
      outbox_bytes: limits.outboxBytes,
      snapshot_topics: limits.snapshotTopics,
    },
  };
}

function refused({ code, message, retryable, retryAfterMs }: TidegateError): ErrorFrame {
  return { type: "error", code, message, retryable, retry_after_ms: retryAfterMs };
}

/** What a Token says, unproven: that is for the gateway. */
function claims(token = ""): { sub?: string; permissions?: unknown; exp?: number } {
  try {
    return JSON.parse(atob((token.split(".")[1] as string).replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return token ? { sub: token } : {};
  }
}

/** In seconds, as it says. */
function expiry(token: string | undefined): number {
  return claims(token).exp ?? 0;
}
