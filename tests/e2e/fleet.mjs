// Pages and a backend on a release. 200 clients of the library follow 5 of 50 kept topics each; the backend
// publishes 100 messages a second, each with its key and again until it is taken. What a client misses or
// gets twice is counted. A line of JSON a second says how it goes; told to end, it waits until everything
// has arrived, and ends with 1 if something is missing.
//
// URL: the gateway's; HMAC: what tokens are signed with; KEY: an API key. CLIENTS and RATE change the size.

import { createHmac } from "node:crypto";
import { createClient } from "./tidegate.mjs";

const { URL: url, HMAC, KEY } = process.env;
const CLIENTS = Number(process.env.CLIENTS ?? 200);
const RATE = Number(process.env.RATE ?? 100);
const TOPICS = 50;
const FOLLOWED = 5;
/** A gateway tries for 15 s. */
const ANSWER_MS = 20_000;
const AGAIN_MS = 200;
const END_MS = 120_000;

const says = {
  connected: 0, published: 0, delivered: 0, lost: 0, twice: 0, tries: {}, gaps: {}, closes: {}, errors: {},
  opened: 0, refused: 0, openedInASecond: 0, slowestPublishMs: 0, slowestDeliveryMs: 0,
};
const count = (where, what) => (where[what] = (where[what] ?? 0) + 1);
const pause = (ms) => new Promise((later) => setTimeout(later, ms));

let openedNow = 0;
globalThis.WebSocket = class extends WebSocket {
  constructor(...about) {
    super(...about);
    let open = false;
    this.addEventListener("open", () => ((open = true), (says.opened += 1), (openedNow += 1)));
    // What was never open is no close: whoever dials a pod that has just left dials again.
    this.addEventListener("close", ({ code }) => (open ? count(says.closes, code) : (says.refused += 1)));
  }
};

function token(sub) {
  const part = (content) => Buffer.from(JSON.stringify(content)).toString("base64url");
  const exp = Math.floor(Date.now() / 1_000) + 86_400;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, exp, permissions: { subscribe: ["demo.>"] } })}`;
  return `${signed}.${createHmac("sha256", HMAC).update(signed).digest("base64url")}`;
}

/** The newest number of each topic that was taken. */
const taken = new Array(TOPICS).fill(0);
const clients = [];

async function follow(index) {
  const client = createClient({ url, token: token(`user-${index}`) });
  client.on("error", ({ code }) => count(says.errors, code));
  const seen = new Map();
  clients.push({ client, seen });
  for (let n = 0; n < FOLLOWED; n += 1) {
    const topic = (index * FOLLOWED + n) % TOPICS;
    seen.set(topic, 0);
    const subscription = client.topic(`demo.e2e.t${topic}`).subscribe(({ data }) => {
      const last = seen.get(topic);
      says.delivered += 1;
      if (data.n <= last) return void (says.twice += 1);
      says.lost += data.n - last - 1;
      says.slowestDeliveryMs = Math.max(says.slowestDeliveryMs, Date.now() - data.at);
      seen.set(topic, data.n);
    });
    subscription.on("gap", ({ reason }) => count(says.gaps, reason));
    await subscription.ready;
  }
}

/** When everything must have arrived, once it is told to end. */
let end = Infinity;

async function publish(topic) {
  await pause((topic / RATE) * 1_000);
  for (let due = Date.now(); end === Infinity; due += (TOPICS / RATE) * 1_000) {
    await pause(Math.max(0, due - Date.now()));
    const n = taken[topic] + 1;
    const since = Date.now();
    for (;;) {
      if (Date.now() > end) return;
      const why = await once(topic, n, since).catch((error) => error.cause?.code ?? error.name);
      if (!why) break;
      count(says.tries, why);
      await pause(AGAIN_MS);
    }
    taken[topic] = n;
    says.published += 1;
    says.slowestPublishMs = Math.max(says.slowestPublishMs, Date.now() - since);
  }
}

/** Tries it; says why it was not taken. */
async function once(topic, n, at) {
  const answer = await fetch(`${url}/v1/topics/demo.e2e.t${topic}/messages`, {
    method: "POST",
    headers: { Authorization: `Bearer ${KEY}`, "Idempotency-Key": `e2e-${topic}-${n}` },
    body: JSON.stringify({ n, at }),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  await answer.arrayBuffer();
  return answer.ok ? "" : String(answer.status);
}

function say() {
  says.connected = clients.filter(({ client }) => client.state === "connected").length;
  says.openedInASecond = Math.max(says.openedInASecond, openedNow);
  openedNow = 0;
  console.log(JSON.stringify(says));
}

const complete = () => clients.every(({ seen }) => [...seen].every(([topic, last]) => last === taken[topic]));

for (let index = 0; index < CLIENTS; index += 20) {
  await Promise.all(Array.from({ length: Math.min(20, CLIENTS - index) }, (_, n) => follow(index + n)));
}
openedNow = 0;
setInterval(say, 1_000);
process.on("SIGTERM", () => (end = Date.now() + END_MS));
await Promise.all(taken.map((_, topic) => publish(topic)));
while (!complete() && Date.now() < end) await pause(100);
say();
process.exit(complete() && says.lost === 0 && says.twice === 0 ? 0 : 1);
