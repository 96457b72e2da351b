// The gateway that serves this page: a client of it, and the routes that only `tidegate dev` has.

import { createClient, type Client } from "tidegate";

/** What `dev` publishes about this machine and itself. */
export interface Demo {
  "demo.counter": { n: number };
  "demo.cpu": { cores: number[] };
  "demo.memory": { used: number; total: number };
  "demo.network": { received: number; sent: number };
  "demo.gateway": { connections: number; subscriptions: number; publications: number; deliveries: number };
  [topic: string]: unknown;
}

export interface Info {
  readonly version: string;
  readonly token: string;
  readonly command: string;
  readonly reach: string;
}

/** The first try after a cut comes within this time, so that there is something to miss. */
const RETRY_MS = 3_000;

async function readInfo(signal: AbortSignal | null = null): Promise<Info> {
  const answer = await fetch("/dev/info", { signal });
  if (!answer.ok) throw new Error(`/dev/info answers ${answer.status}`);
  return answer.json();
}

export const info: Info = await readInfo();

/** A Token dies with its process, so each question is answered by the process that is there now. */
export const client: Client<Demo> = createClient<Demo>({
  token: async ({ signal }) => (await readInfo(signal)).token,
  retry: { minMs: RETRY_MS },
});

/** Drops this page's socket without a goodbye, or sends this page away; says what went wrong. */
export async function ask(what: "cut" | "drain"): Promise<string | undefined> {
  try {
    const answer = await fetch(`/dev/${what}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ connection: client.connection?.id }),
      signal: AbortSignal.timeout(10_000),
    });
    return answer.ok ? undefined : `The gateway answers ${answer.status}.`;
  } catch (fault) {
    return `No answer: ${(fault as Error).message}.`;
  }
}
