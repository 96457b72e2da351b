// The same from elsewhere: lines for a shell, a page without a library, and the SDK.

import { Copy } from "./copy.tsx";
import { info } from "./gateway.ts";

const { origin } = location;
const socket = origin.replace(/^http/, "ws");
/** As curl takes it. */
const host = origin.replace(/^http:\/\//, "");

export const CURL = `curl -d '{"v":42}' \\
  ${host}/v1/topics/demo.hello/messages`;

const WATCH = `curl -N '${host}/v1/events?topic=demo.**&from=last'`;
const BARE = `const socket = new WebSocket("${socket}/v1/connect?topic=demo.**");
socket.onmessage = ({ data }) => console.log(data);`;
const EVENTS = `const events = new EventSource("${origin}/v1/events?topic=demo.**");
events.onmessage = ({ data }) => console.log(data);`;
const SDK = `const { createClient } = await import("${origin}/tidegate.js");
const client = createClient({ url: "${origin}" });
client.pattern("demo.>").subscribe(({ topic, data }) => console.log(topic, data));
await client.topic("demo.hello").publish({ v: 42 });`;

/** Small applications, which `dev` serves beside this page. */
const EXAMPLES = [["chat", "Chat"], ["cursors", "Shared cursors"], ["board", "Board"], ["ticker", "Market ticker"], ["log", "Log tail"]] as const;

export function Lines() {
  const elsewhere = origin === "http://localhost:8080" ? "" : ` --url ${origin}`;
  const token = `curl -H 'Authorization: Bearer ${info.token}' -d '{"v":42}' ${host}/v1/topics/orders.new/messages`;
  return (
    <section class="panel" aria-labelledby="lines-title">
      <div class="section-head">
        <h2 id="lines-title">From your own code</h2>
        <p class="unit">Topics under <code>demo</code> are open in dev; all others need the token. JavaScript runs as it stands in this page’s console.</p>
      </div>
      <div class="lines">
        <Copy title="SDK" line={SDK} />
        <Copy title="EventSource" line={EVENTS} />
        <Copy title="WebSocket, no library" line={BARE} />
        <Copy title="curl: watch" line={WATCH} />
        <Copy title="curl: read the newest values" line={`curl '${host}/v1/topics/demo.**/state'`} />
        <Copy title="Command line: watch" line={`${info.command} subscribe 'demo.**'${elsewhere}`} />
        <Copy title="curl: any other topic, with the token of this process" line={token} wide />
      </div>
      <p class="examples"><b>Small applications</b> {EXAMPLES.map(([name, title]) => <a key={name} href={`/examples/${name}.html`}>{title}</a>)}</p>
    </section>
  );
}
