// The fallback Transport in a simulated world: streams of one gateway that each lag by chance, while Subscriptions come
// and go, Tokens are renewed, and somebody publishes. Whatever the order, each Subscription gets all of its own, once.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import type { Frame, MessageFrame } from "../src/codec.ts";
import { createClient } from "../src/index.ts";
import type { From, Publication, Subscription } from "../src/index.ts";
import { matcher } from "../src/pattern.ts";
import { sse } from "../src/sse.ts";
import { clock, cursor, gap, message, turn } from "./gateway.ts";
import { FakeHttp } from "./http.ts";
import type { Asked } from "./http.ts";

/** More by the environment. */
const SEEDS = Number(process.env["SEEDS"] ?? 40);
const STEPS = 150;
const TOPICS = ["dash.a", "dash.b", "dash.c.x", "chat.1", "chat.2"];
const PATTERNS = ["dash.>", "dash.*", "dash.a", "dash.c.*", "chat.*", "chat.1"];

/** A chance that can be repeated. */
class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(bound: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * bound);
  }

  of<T>(all: readonly T[]): T {
    return all[this.below(all.length)] as T;
  }
}

const isKept = (topic: string): boolean => topic.startsWith("dash");

/** The gateway: what it keeps, and who listens. */
class World {
  readonly log: MessageFrame[] = [];
  readonly streams = new Map<Asked, Frame[]>();
  /** Where nothing is kept, too. */
  readonly all: MessageFrame[] = [];

  publish(topic: string): void {
    const number = this.all.length + 1;
    const one = isKept(topic) ? message(topic, number, this.log.length + 1) : message(topic, number);
    this.all.push(one);
    if (isKept(topic)) this.log.push(one);
    for (const [asked, waiting] of this.streams) if (wants(asked, topic)) waiting.push(one);
  }

  position(): Frame {
    return { type: "position", namespace: "dash", cursor: cursor(this.log.length) };
  }

  tellPositions(): void {
    for (const [asked, waiting] of this.streams) if (asked.topics.some(isKept)) waiting.push(this.position());
  }

  /** A stream begins: what it missed stands in front of what comes. */
  begin(asked: Asked): void {
    const { cursors, from, last, since } = asked.from;
    const missed = this.log.filter(({ topic }) => wants(asked, topic));
    const waiting: Frame[] = [];
    const fleeting = asked.topics.filter((topic) => !isKept(topic)).map((topic) => gap(topic, "history_trimmed"));
    if (asked.topics.some(isKept)) {
      const isNewest = (one: MessageFrame): boolean => missed.findLast(({ topic }) => topic === one.topic) === one;
      if (cursors) waiting.push(...missed.filter((one) => offset(one) > offset({ cursor: cursors })));
      else if (from === "last") waiting.push(...missed.filter(isNewest));
      else if (last) waiting.push(...missed.slice(-Number(last)));
      else if (!since?.startsWith("9999")) waiting.push(...missed);
      waiting.push(this.position());
    }
    // Each Namespace begins in its own time.
    if (this.all.length % 2) waiting.push(...fleeting);
    else waiting.unshift(...fleeting);
    this.streams.set(asked, waiting);
    void asked.begin();
  }
}

function offset({ cursor }: { cursor?: string | undefined }): number {
  return Number.parseInt(cursor!.split("-")[1]!, 16);
}

function wants(asked: Asked, topic: string): boolean {
  return asked.topics.some((pattern) => matcher(pattern).test(topic));
}

interface Heard {
  readonly subscription: Subscription;
  readonly from: unknown;
  readonly got: Publication[];
  /** What had been published when it was live. */
  since?: number;
}

let http: FakeHttp;

beforeEach(() => {
  clock.stop();
  http = new FakeHttp();
});

afterEach(() => {
  http.stop();
  clock.start();
});

async function simulate(seed: number): Promise<void> {
  const chance = new Chance(seed);
  const dice = new Chance(seed);
  mock.method(Math, "random", () => dice.below(1_000) / 1_000);
  const world = new World();
  const begun = new Set<Asked>();
  const losses: string[] = [];
  const life = 1_000;
  const token = (): string => `.${btoa(JSON.stringify({ exp: Date.now() / 1_000 + life }))}.`;
  const client = createClient({ url: "https://example.com", token, transports: [sse()] });
  client.on("error", ({ code }) => losses.push(code));
  let heard: Heard[] = [];
  const ended: Heard[] = [];

  const step = async (action: number): Promise<void> => {
    if (action < 5) world.publish(chance.of(TOPICS));
    else if (action < 6) join();
    else if (action < 7 && heard.length > 0) {
      const one = chance.of(heard);
      heard = heard.filter((other) => other !== one);
      await one.subscription.unsubscribe();
      ended.push(one);
    } else if (action < 8) await clock.pass(chance.of([10, 500, 1_000]));
    else if (action < 9) world.tellPositions();
    if (action === 9 && chance.below(10) === 0) await pass(life * 800);
    await deliver(chance.below(4));
  };

  const join = (): void => {
    const pattern = chance.of(PATTERNS);
    const lastOf = /[*>]/.test(pattern) ? [] : [{ last: 3 }];
    const from = chance.of<From | { last: number }>(["live", "live", "last", { since: new Date(0) }, ...lastOf]);
    const got: Publication[] = [];
    const hear = (publication: Publication): void => void got.push(publication);
    const subscription = client.pattern(pattern).subscribe(hear, { from: from as From });
    const one: Heard = { subscription, from, got };
    // History where nothing is kept is asked for in vain.
    subscription.on("gap", ({ reason }) => {
      if (isKept(pattern) || from === "live") losses.push(`${pattern} ${reason}`);
    });
    subscription.ready.then(() => (one.since = world.all.length), () => {});
    heard.push(one);
  };

  /** Some streams go on, some by a step. */
  const deliver = async (steps: number): Promise<void> => {
    await turn();
    for (const asked of http.asked) {
      if (asked.url.pathname.endsWith("publish")) await asked.answer(200, { results: [] });
      else if (!begun.has(asked) && chance.below(2) === 0) {
        begun.add(asked);
        world.begin(asked);
      }
    }
    for (let at = 0; at < steps; at += 1) {
      for (const [asked, waiting] of world.streams) {
        if (asked.ended) world.streams.delete(asked);
        else if (waiting.length > 0 && chance.below(2) === 0) await asked.push(waiting.shift()!);
      }
    }
  };

  /** Streams lag, but not for as long. */
  const pass = async (ms: number): Promise<void> => {
    await deliver(0);
    while ([...world.streams.values()].some(({ length }) => length > 0)) await deliver(10);
    await clock.pass(ms);
  };

  for (let at = 0; at < STEPS; at += 1) await step(chance.below(10));
  const settled = (): boolean =>
    heard.every(({ subscription: { state } }) => state === "live") &&
    [...world.streams.values()].every(({ length }) => length === 0);
  for (let at = 0; !settled(); at += 1) {
    assert(at < 1_000, "all become live");
    if (at % 10 === 9) {
      for (const [asked, waiting] of world.streams) if (waiting.length === 0) await asked.write(":\n\n");
      await clock.pass(1_000);
    }
    await deliver(10);
  }
  await turn();

  assert.deepEqual(losses, []);
  for (const { subscription, got, since, from } of [...heard, ...ended]) {
    const matches = matcher(subscription.pattern);
    const own = world.all.filter(({ topic }) => matches.test(topic));
    const ids = got.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, "nothing comes twice");
    if (isKept(subscription.pattern)) {
      const places = got.map(offset);
      assert.deepEqual(places, places.toSorted((one, other) => one - other), "in their order");
      const between = own.map(offset).filter((place) => place >= places[0]! && place <= places.at(-1)!);
      if (from !== "last") assert.deepEqual(places, between);
    }
    if (since === undefined || subscription.state === "ended") continue;
    const missing = world.all.slice(since).filter(({ topic, id }) => matches.test(topic) && !ids.includes(id));
    assert.deepEqual(missing, [], "nothing is missing");
    const newest = new Map(own.map(({ topic, id }) => [topic, id]));
    if (from === "live" || !isKept(subscription.pattern)) continue;
    for (const id of newest.values()) assert(ids.includes(id), "the newest values are there");
  }
  await client.close();
}

for (let seed = 1; seed <= SEEDS; seed += 1) {
  test(`seed ${seed}`, () => simulate(seed));
}
