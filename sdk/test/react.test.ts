// Components on a server: nothing is connected, and nothing tries to be.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { createClient } from "../src/index.ts";
import { TidegateProvider, useConnection, useLatest, useLive, useSubscription } from "../src/react.ts";
import { FakeGateway, turn } from "./gateway.ts";

function Board(): string {
  const { state } = useConnection();
  const { values, stale } = useLive("dash.>");
  const latest = useLatest("dash.a");
  useSubscription("dash.>", () => assert.fail("nothing comes on a server"));
  return JSON.stringify({ state, values: values.size, stale, latest });
}

test("on a server everything is idle and empty, and nobody dials", async () => {
  const gateway = new FakeGateway();
  const client = createClient({ url: "https://example.com", transports: [gateway.transport] });
  const html = renderToString(createElement(TidegateProvider, { client }, createElement(Board)));
  assert.equal(html.replaceAll("&quot;", '"'), '{"state":"idle","values":0,"stale":true}');
  await turn();
  assert.equal(gateway.links.length, 0);
  await client.close();
});

test("without a provider a hook says so", () => {
  assert.throws(() => renderToString(createElement(Board)), /no TidegateProvider/);
});
