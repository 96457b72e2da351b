// A gateway that says what a test tells it to, over a Transport that is no socket; and a clock that stands still.

import assert from "node:assert/strict";
import { mock } from "node:test";
import type { Close } from "../src/close.ts";
import type { Command, Frame, MessageFrame, Push, SubscribedFrame } from "../src/codec.ts";
import type { Link, LinkListener, Transport } from "../src/transport.ts";

type OfType<K extends Command["type"]> = Extract<Command, { type: K }>;

/** Everything that has been dialled, in order. */
export class FakeGateway {
  readonly links: FakeLink[] = [];
  readonly transport: Transport;

  constructor(name = "fake", usable = true) {
    this.transport = {
      name,
      usable,
      open: (url, listener) => {
        const link = new FakeLink(url, listener);
        this.links.push(link);
        return link;
      },
    };
  }

  /** The last one dialled. */
  get link(): FakeLink {
    const link = this.links.at(-1);
    assert(link, "nobody has dialled");
    return link;
  }
}

/** One Link, seen from the gateway's side. */
export class FakeLink implements Link {
  readonly url: URL;
  readonly sent: Command[] = [];
  closed = false;
  readonly #listener: LinkListener;

  constructor(url: URL, listener: LinkListener) {
    this.url = url;
    this.#listener = listener;
  }

  send(command: Command): void {
    this.sent.push(command);
  }

  close(): void {
    this.closed = true;
  }

  all<K extends Command["type"]>(type: K): OfType<K>[] {
    return this.sent.filter((command): command is OfType<K> => command.type === type);
  }

  /** The last Command of that type. */
  the<K extends Command["type"]>(type: K): OfType<K> {
    const command = this.all(type).at(-1);
    assert(command, `no ${type} was sent`);
    return command;
  }

  push(...frames: Frame[]): void {
    for (const frame of frames) if (!this.closed) this.#listener.frame(frame);
  }

  /** Ends it, by a close reason or without a word. */
  end(status = 1006, reason: object | string = ""): void {
    const close: Close = { status, reason: typeof reason === "string" ? reason : JSON.stringify(reason) };
    this.closed = true;
    this.#listener.ended(close);
  }

  connected(about: { expires_at?: string; connection?: string } = {}): void {
    this.push({
      type: "connected",
      id: this.the("connect").id,
      connection: "c1",
      node: "n1",
      heartbeat_ms: 25_000,
      limits: {
        message_bytes: 65_536,
        subscriptions: 128,
        commands_per_second: 50,
        outbox_bytes: 262_144,
        snapshot_topics: 1_024,
      },
      ...about,
    });
  }

  /** The answer to the last `subscribe` that named this Pattern. */
  subscribed(topic: string, about: Partial<SubscribedFrame> = {}): void {
    const { id } = this.asked(topic);
    this.push({ type: "subscribed", id, topic, recovered: true, replayed: 0, more: false, ...about });
  }

  /** The last `subscribe` that named this Pattern, and where it should begin. */
  asked(topic: string): { id: number; from: unknown } {
    for (const { id, topics } of this.all("subscribe").reverse()) {
      const entry = topics.find((entry) => entry.topic === topic);
      if (entry) return { id, from: entry.from };
    }
    throw assert.fail(`nobody has subscribed to ${topic}`);
  }

  error(
    id: number,
    code: string,
    about: { topic?: string; retryable?: boolean; retry_after_ms?: number } = {},
  ): void {
    this.push({ type: "error", id, code, message: "no", retryable: false, ...about });
  }
}

const TIME = "2026-11-22T10:00:00.123Z";
let ids = 0;

/** A Publication; with an offset where history is kept. */
export function message(
  topic: string,
  data: unknown,
  offset?: number,
  about: { id?: string; epoch?: string } = {},
): MessageFrame {
  ids += 1;
  const { id = `m${ids}`, epoch = "k3f7qa" } = about;
  return {
    type: "message",
    topic,
    id,
    time: TIME,
    data,
    ...(offset !== undefined && { cursor: cursor(offset, epoch) }),
  };
}

export function tombstone(topic: string, offset: number): MessageFrame {
  const { id, cursor } = message(topic, null, offset);
  return { type: "message", topic, id, time: TIME, deleted: true, ...(cursor !== undefined && { cursor }) };
}

export function cursor(offset: number, epoch = "k3f7qa"): string {
  return `${epoch}-${offset.toString(16)}-0000`;
}

export function gap(topic: string, reason: string, missed?: number): Push {
  return { type: "gap", topic, reason, ...(missed !== undefined && { missed }) };
}

/** Lets all run that waits for no timer. */
export async function turn(): Promise<void> {
  for (let turns = 0; turns < 5; turns += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** The clock of a test: it stands until told to go on. */
export const clock = {
  stop(): void {
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.parse(TIME) });
  },
  /** Goes on, timers ringing on their way. */
  async pass(ms: number): Promise<void> {
    mock.timers.tick(ms);
    await turn();
  },
  /** The page sleeps: the clock goes on, but no timer rings before the end. */
  async sleep(ms: number): Promise<void> {
    mock.timers.setTime(Date.now() + ms);
    mock.timers.tick(1);
    await turn();
  },
  start(): void {
    mock.timers.reset();
  },
};
