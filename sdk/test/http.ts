// A gateway's HTTP side that answers as a test tells it to, in place of `fetch`.

import assert from "node:assert/strict";
import { mock } from "node:test";
import type { ErrorFrame, Frame } from "../src/codec.ts";
import { turn } from "./gateway.ts";

/** Everything that was asked, in order. */
export class FakeHttp {
  readonly asked: Asked[] = [];

  constructor() {
    mock.method(globalThis, "fetch", (url: string, options: RequestInit) => {
      const asked = new Asked(new URL(url), options);
      this.asked.push(asked);
      return asked.response;
    });
    // By the clock of the test.
    mock.method(AbortSignal, "timeout", (ms: number) => {
      const late = new AbortController();
      setTimeout(() => late.abort(), ms);
      return late.signal;
    });
  }

  get streams(): Asked[] {
    return this.asked.filter(({ url }) => url.pathname.endsWith("/v1/events"));
  }

  /** The last stream that was asked for. */
  get stream(): Asked {
    const stream = this.streams.at(-1);
    assert(stream, "no stream was asked for");
    return stream;
  }

  /** The last of the other calls. */
  get call(): Asked {
    const call = this.asked.findLast(({ url }) => !url.pathname.endsWith("/v1/events"));
    assert(call, "nothing was asked");
    return call;
  }

  stop(): void {
    mock.restoreAll();
  }
}

/** One request, and its answer. */
export class Asked {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly body: unknown;
  readonly response: Promise<Response>;
  ended = false;
  #answer!: { resolve(response: Response): void; reject(error: unknown): void };
  #writer: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(url: URL, options: RequestInit) {
    this.url = url;
    this.method = options.method ?? "GET";
    this.headers = new Headers(options.headers);
    this.body = options.body === undefined ? undefined : JSON.parse(String(options.body));
    this.response = new Promise((resolve, reject) => (this.#answer = { resolve, reject }));
    options.signal?.addEventListener("abort", () => {
      this.ended = true;
      this.fail();
    });
  }

  get topics(): string[] {
    return this.url.searchParams.getAll("topic");
  }

  /** Where it is to begin. */
  get from(): Record<string, string> {
    const cursors = this.headers.get("last-event-id");
    const query = [...this.url.searchParams].filter(([name]) => name !== "topic");
    return { ...Object.fromEntries(query), ...(cursors && { cursors }) };
  }

  async answer(status: number, body: unknown): Promise<void> {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    this.#answer.resolve(new Response(text, { status }));
    await turn();
  }

  async refuse(status: number, code: string, about: Partial<ErrorFrame> = {}): Promise<void> {
    await this.answer(status, { code, status, detail: "no", retryable: false, ...about });
  }

  /** It cannot be had, or breaks off. */
  fail(): void {
    const error = new TypeError("fetch failed");
    this.#answer.reject(error);
    try {
      this.#writer?.error(error);
    } catch {
      // It has ended already.
    }
  }

  /** As a stream: what it says first, with the time to come back after. */
  async begin(...frames: Frame[]): Promise<void> {
    const body = new ReadableStream<Uint8Array>({ start: (writer) => void (this.#writer = writer) });
    this.#answer.resolve(new Response(body));
    await this.write("retry: 3000\n\n");
    await this.push(...frames);
  }

  async push(...frames: Frame[]): Promise<void> {
    for (const frame of frames) {
      const event = frame.type === "message" ? "" : `event: ${frame.type}\n`;
      await this.write(`${event}data: ${JSON.stringify(frame)}\n\n`);
    }
  }

  async close(code: string, retry: boolean, ms?: number): Promise<void> {
    await this.write(`event: close\ndata: ${JSON.stringify({ code, retry, ms })}\n\n`);
  }

  async write(text: string): Promise<void> {
    await this.writeBytes(new TextEncoder().encode(text));
  }

  async writeBytes(bytes: Uint8Array): Promise<void> {
    if (!this.ended) this.#writer?.enqueue(bytes);
    await turn();
  }

  async end(): Promise<void> {
    this.#writer?.close();
    await turn();
  }
}
