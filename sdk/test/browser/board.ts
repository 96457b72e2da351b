// A page of React in strict mode, for react.test.ts: two boards of one Pattern, one Topic, and a log.

import { createElement, startTransition, StrictMode, useState } from "react";
import type { ReactNode } from "react";
import { hydrateRoot } from "react-dom/client";
import type { Root } from "react-dom/client";
import { createClient } from "../../src/index.ts";
import { TidegateProvider, useConnection, useLatest, useLive, useSubscription } from "../../src/react.ts";

/** What the test takes hold of. */
export interface BoardWindow {
  log: unknown[];
  show(pattern: string): void;
  root: Root;
}

const page = globalThis as unknown as BoardWindow;
Object.assign(page, { log: [] });

function Board({ name, pattern }: { name: string; pattern: string }): ReactNode {
  const { values, stale } = useLive<number>(pattern);
  const rows = [...values].map(([topic, value]) => `${topic}=${value}`).sort();
  return createElement("p", { id: name, "data-stale": stale }, rows.join(" "));
}

function Status(): ReactNode {
  return createElement("p", { id: "status" }, useConnection().state);
}

function Latest(): ReactNode {
  return createElement("p", { id: "latest" }, String(useLatest("kept.r.a")));
}

function Log({ pattern, prefix }: { pattern: string; prefix: string }): ReactNode {
  useSubscription<number>(pattern, ({ data, deleted }) => page.log.push(prefix + (deleted ? "gone" : data)));
  return null;
}

function All(): ReactNode {
  const [pattern, show] = useState("kept.r.*");
  page.show = (pattern) => startTransition(() => show(pattern));
  return [
    createElement(Status, { key: "status" }),
    createElement(Latest, { key: "latest" }),
    createElement(Board, { key: "one", name: "one", pattern }),
    createElement(Board, { key: "other", name: "other", pattern }),
    createElement(Log, { key: "log", pattern, prefix: `${pattern} ` }),
  ];
}

const client = createClient({ url: new URLSearchParams(location.search).get("gateway") ?? "" });
// As a server wrote it: the first render must be the same.
document.body.innerHTML =
  '<main><p id="status">idle</p><p id="latest">undefined</p><p id="one" data-stale="true"></p><p id="other" data-stale="true"></p></main>';
const strict = createElement(StrictMode, null, createElement(TidegateProvider, { client }, createElement(All)));
page.root = hydrateRoot(document.querySelector("main") as Element, strict, {
  onRecoverableError: (error) => console.error("hydration", error),
});
