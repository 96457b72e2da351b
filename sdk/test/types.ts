// What the types promise, judged by `tsc`; nothing here is run.

import { createClient, sessionCursors, TidegateError, Unauthorized, webSocket } from "tidegate";
import type { Client, Cursor, LiveMap, Page, Publication, Published, Subscription, Transport } from "tidegate";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function is<_T extends true>(): void {}

/** The Topics of an application. */
interface Topics {
  "dash.eu": { total: number };
  [user: `user.${string}.mood`]: "up" | "down";
}

export async function typed(): Promise<void> {
  await using client = createClient<Topics>({
    url: "https://example.com",
    token: async ({ reason, attempt, signal }) => {
      if (reason === "rejected" && attempt > 3) throw new Unauthorized();
      const response = await fetch("/token", { signal });
      return response.text();
    },
    transports: [webSocket()],
    hidden: { afterMs: 60_000, then: "pause" },
    retry: { maxMs: 10_000 },
    cursors: sessionCursors(),
  });
  is<Equal<typeof client, Client<Topics>>>();

  // Topics are those of the map, and carry what it says.
  const eu = client.topic("dash.eu");
  is<Equal<ReturnType<typeof eu.publish>, Promise<Published>>>();
  await eu.publish({ total: 1 }, { key: "k" });
  // @ts-expect-error: not what is published there
  await eu.publish({ totals: 1 });
  // @ts-expect-error: no Topic of the map
  client.topic("dash.us");
  await client.topic(`user.${"ana"}.mood`).publish("up");
  // @ts-expect-error: not what is published there
  await client.topic("user.ana.mood").publish("sideways");

  // A tombstone has no data, and nothing else is without.
  for await (const publication of eu.subscribe({ from: "last" })) {
    is<Equal<typeof publication, Publication<{ total: number }>>>();
    if (publication.deleted) is<Equal<typeof publication.data, undefined>>();
    else is<Equal<typeof publication.data, { total: number }>>();
    // @ts-expect-error: it may be a tombstone
    publication.data.total;
  }

  // Only a Topic has a last n; both begin at a Cursor or a time.
  eu.subscribe({ from: { last: 3 } });
  client.pattern("dash.*").subscribe({ from: { since: new Date() } });
  // @ts-expect-error: not of a Pattern
  client.pattern("dash.*").subscribe({ from: { last: 3 } });
  // @ts-expect-error: a text is no Cursor
  eu.subscribe({ from: "k3f7qa-1e7" });
  const page: Page<{ total: number }> = await eu.history({ limit: 10 });
  const next: Cursor | undefined = page.next;
  if (next) eu.subscribe(({ topic }) => topic, { from: next });

  // A Pattern is what its reader says, or what `validate` finds.
  const unknown = client.pattern("dash.*").subscribe();
  is<Equal<typeof unknown, Subscription<unknown>>>();
  const numbers = client.pattern<number>("dash.*").subscribe({ validate: (data) => Number(data) });
  numbers.on("message", (publication) => is<Equal<typeof publication, Publication<number>>>());
  numbers.on("gap", ({ reason, missed }) =>
    is<Equal<[typeof reason, typeof missed], [typeof reason, number | undefined]>>(),
  );
  // @ts-expect-error: no such event
  numbers.on("messages", () => {});
  is<Equal<ReturnType<typeof eu.live>, LiveMap<{ total: number }>>>();

  client.on("state", (state) => {
    // @ts-expect-error: no such state
    if (state === "disconnected") return;
  });
  client.on("error", (error) => is<Equal<typeof error, TidegateError>>());
}

export function untyped(): void {
  const topic = createClient().topic("any.topic");
  void topic.publish(["anything"]);
}

/** A Transport is any object of that form. */
export const nowhere: Transport = {
  name: "nowhere",
  usable: true,
  open: (_url, listener) => {
    queueMicrotask(() => listener.ended({ status: 1006, reason: "" }));
    return { send: () => {}, close: () => {} };
  },
};
