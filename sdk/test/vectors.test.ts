// The golden vectors that the tests of the node read, too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { verdict } from "../src/close.ts";
import type { ErrorFrame, Frame } from "../src/codec.ts";
import { decode } from "../src/codec.ts";
import { refusal } from "../src/error.ts";
import { createClient } from "../src/index.ts";
import type { Publication } from "../src/index.ts";
import { canonical, isPattern, isTopic, matcher } from "../src/pattern.ts";
import { payload, publication } from "../src/publication.ts";
import { FakeGateway, message, turn } from "./gateway.ts";

function vectors<V>(file: string): (V & { name: string })[] {
  return JSON.parse(readFileSync(new URL(`../../proto/vectors/${file}.json`, import.meta.url), "utf8")) as (V & {
    name: string;
  })[];
}

test("topics: what is legal", () => {
  for (const { name, text, expect } of vectors<{ text: string; expect: string }>("topics")) {
    assert.equal(isTopic(text), expect === "legal", name);
  }
});

describe("patterns", () => {
  type Vector =
    | { check: "parse"; pattern: string; expect: string | { canonical: string; subscribe: boolean } }
    | { check: "matches"; pattern: string; topic: string; expect: boolean }
    | { check: "covers" };
  const all = vectors<Vector>("patterns");

  test("what can be subscribed to, and how it is spelled", () => {
    for (const vector of all) {
      if (vector.check !== "parse") continue;
      const { pattern, expect, name } = vector;
      assert.equal(isPattern(pattern), typeof expect === "object" && expect.subscribe, name);
      if (typeof expect === "object") assert.equal(canonical(pattern), expect.canonical, name);
    }
  });

  test("what they match", () => {
    let seen = 0;
    for (const vector of all) {
      if (vector.check !== "matches") continue;
      assert.equal(matcher(canonical(vector.pattern)).test(vector.topic), vector.expect, vector.name);
      seen += 1;
    }
    assert.ok(seen > 0);
  });
});

describe("closes", () => {
  type Vector = {
    close: { kind: string; code?: string; ms?: number };
    expect: { status: number | null; reason: string };
  };

  test("the reason decides", () => {
    for (const { name, close, expect } of vectors<Vector>("closes")) {
      if (expect.status === null || expect.reason === "") continue;
      const { code, retry, ms, freshToken } = verdict({ status: expect.status, reason: expect.reason });
      const told = JSON.parse(expect.reason) as { code: string; retry: boolean; ms?: number };
      assert.deepEqual({ code, retry, ms }, { code: told.code, retry: told.retry, ms: told.ms }, name);
      assert.equal(freshToken, close.code === "unauthenticated" || close.code === "token_expired", name);
    }
  });

  test("without one the status does, and says the same", () => {
    for (const { name, expect } of vectors<Vector>("closes")) {
      if (expect.status === null || name === "refused: auth_timeout") continue;
      const told = expect.reason === "" ? { retry: false } : (JSON.parse(expect.reason) as { retry: boolean });
      if (expect.status !== 4000)
        assert.equal(verdict({ status: expect.status, reason: "" }).retry, told.retry, name);
    }
    for (const status of [1001, 1006, 1013, 4000, 4999])
      assert.equal(verdict({ status, reason: "what?" }).retry, true);
    assert.equal(verdict({ status: 4401, reason: "" }).freshToken, true);
  });
});

test("errors: what each code says of trying again", () => {
  for (const { name, expect } of vectors<{ expect: { retryable: string } }>("errors")) {
    const retryable = expect.retryable === "yes";
    const frame: ErrorFrame = { type: "error", code: name, message: "", retryable };
    assert.deepEqual([refusal(frame).code, refusal(frame).retryable], [name, retryable]);
  }
});

test("messages: every payload comes out as what was published", () => {
  for (const { name, expect } of vectors<{ expect: string }>("messages")) {
    const frame = decode(expect);
    assert.ok(frame?.type === "message", name);
    const { topic, id, cursor, time, user, ...carried } = frame;
    const seen = publication(frame, false);
    assert.deepEqual(
      [seen.topic, seen.id, seen.cursor, seen.time.toISOString(), seen.user],
      [topic, id, cursor, time, user],
      name,
    );
    if ("deleted" in carried) assert.deepEqual([seen.deleted, "data" in seen], [true, false], name);
    else if ("data" in carried) assert.deepEqual(seen.data, carried.data, name);
    else assert.deepEqual(payload(seen.data), { data_base64: carried.data_base64 }, name);
  }
});

test("replies and pushes: all can be read", () => {
  for (const file of ["replies", "pushes"]) {
    for (const { name, expect } of vectors<{ expect: string }>(file)) assert.ok(decode(expect), name);
  }
});

describe("replays: whose a publication is", () => {
  type Played = { type: string; topic: string; cursor: string; socket?: number };
  type Vector = {
    subscriptions: string[];
    frames: Played[];
    expect: Record<string, { offsets: number[]; cursor: string | null }>;
  };

  for (const { name, subscriptions, frames, expect } of vectors<Vector>("replays")) {
    test(name, async (t) => {
      const gateway = new FakeGateway();
      const client = createClient({ url: "https://example.com", transports: [gateway.transport] });
      t.after(() => client.close());
      const all = subscriptions.map((pattern) => {
        const offsets: number[] = [];
        const take = ({ cursor }: Publication): void => {
          offsets.push(Number.parseInt(cursor?.split("-")[1] ?? "", 16));
        };
        const subscription = client.pattern(pattern).subscribe(take, { from: "last" });
        return { pattern, subscription, offsets };
      });
      await turn();
      const first = gateway.link;
      first.connected();
      for (const { socket, ...frame } of frames) {
        if (socket !== undefined && gateway.link === first) {
          // The second connection: by a move, or after the first is lost.
          if (!name.startsWith("moving")) first.end(1012, { code: "draining", retry: true, ms: 0 });
          else if (!frames.some(({ type }) => type === "going_away"))
            first.push({ type: "going_away", reconnect_in_ms: 0 });
          while (gateway.links.length < 2) await turn();
          gateway.link.connected();
        }
        const link = socket === undefined ? first : gateway.link;
        const { id: _, ...body } = message(frame.topic, null);
        if (frame.type === "subscribed") link.subscribed(frame.topic, frame as object);
        else if (frame.type === "message") link.push({ ...body, id: `${frame.cursor}`, cursor: frame.cursor });
        else link.push(frame as unknown as Frame);
        if (frame.type === "unsubscribed")
          await all.find(({ pattern }) => pattern === frame.topic)?.subscription.unsubscribe();
      }
      for (const { pattern, subscription, offsets } of all) {
        assert.deepEqual(offsets, expect[pattern]?.offsets, pattern);
        assert.equal(subscription.cursor ?? null, expect[pattern]?.cursor, pattern);
      }
    });
  }
});
