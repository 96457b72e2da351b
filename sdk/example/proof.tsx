// Two ways to lose a connection, and the counter that shows what it cost.

import { useEffect, useState } from "preact/hooks";
import { beginMove, counter, move } from "./dashboard.ts";
import { useFrame } from "./frames.ts";
import { ask, client } from "./gateway.ts";
import { lines, note } from "./journal.ts";
import { Ribbon } from "./ribbon.tsx";
import { span } from "./words.ts";

export function Proof() {
  return (
    <section class="panel proof" aria-labelledby="proof-title">
      <Acts />
      <figure class="ribbon">
        <figcaption>
          <h3>demo.counter</h3>
          <span class="legend unit"><i class="mark-live" /> live <i class="mark-replayed" /> replayed <i class="mark-lost" /> lost</span>
        </figcaption>
        <div class="plot"><Ribbon /></div>
        <Figures />
      </figure>
      <Journal />
    </section>
  );
}

function Acts() {
  const [fault, setFault] = useState("");
  const [connected, setConnected] = useState(client.state === "connected");
  useEffect(() => client.on("state", () => setConnected(client.state === "connected")), []);
  // `disabled` would drop the focus.
  const act = (what: "cut" | "drain") => async () => {
    if (client.state !== "connected") return;
    note(what === "cut" ? "asked the node to cut this connection" : "asked the node to send this page away");
    if (what === "drain") beginMove();
    setFault((await ask(what)) ?? "");
  };
  return (
    <div class="acts">
      <h2 id="proof-title">Nothing gets lost</h2>
      <p class="lead">Cut this page’s socket without a goodbye: it comes back by its cursor and gets what it missed. Or drain the node: the page moves, and nobody notices.</p>
      <div class="buttons">
        <button type="button" class="primary" id="cut" aria-disabled={!connected} onClick={act("cut")}>Cut my connection</button>
        <button type="button" id="drain" aria-disabled={!connected} onClick={act("drain")}>Drain this node</button>
      </div>
      {fault ? <p class="result" data-kind="bad">{fault}</p> : null}
    </div>
  );
}

/** What the last absence cost, or the one that lasts. */
function Figures() {
  useFrame();
  const absence = counter.away ?? counter.absence;
  const over = absence?.to !== undefined;
  const unknown = absence?.unknown !== undefined;
  const missed = absence && over && !unknown ? absence.replayed + absence.lost : undefined;
  const lost = unknown ? undefined : absence?.lost;
  const figure = (value: number | undefined) => (value === undefined ? (unknown ? "?" : "–") : value.toLocaleString("en"));
  return (
    <>
      <dl class="figures">
        <div><dt>missed while away</dt><dd id="missed">{figure(missed)}</dd></div>
        <div><dt>replayed</dt><dd id="replayed">{figure(absence?.replayed)}</dd></div>
        <div data-good={over && lost === 0}><dt>lost</dt><dd id="lost">{figure(lost)}</dd></div>
        <div class="newest-number"><dt>newest</dt><dd id="newest">{figure(counter.newest)}</dd></div>
      </dl>
      <p class="verdict" id="verdict">{verdict(over)}</p>
    </>
  );
}

function verdict(over: boolean): string {
  const absence = counter.absence;
  if (move && (!absence || move.began > absence.from)) {
    if (!move.moved) return "The node has asked this page to move; it does so at its moment.";
    const how = move.noticed ? "after a break" : "and the state never left connected";
    return `Moved to a new connection after ${span(move.moved.ms)}, ${how}: ${move.moved.lost} numbers missing.`;
  }
  if (counter.away) return "Away: the counter goes on without this page.";
  if (!over || !absence) return "Ten numbers a second. Not cut yet.";
  const away = span(absence.to! - absence.from);
  if (absence.unknown !== undefined) return `Away for ${away}, back, and told that what was missed cannot be had (${absence.unknown}): the node was restarted.`;
  const complete = absence.lost === 0 ? "complete" : "history did not reach back so far";
  return `Away for ${away}, back, ${complete}.`;
}

function Journal() {
  useFrame();
  return (
    <div class="journal">
      <h3 id="log-title">What happened</h3>
      <ol class="log" id="log" tabIndex={0} aria-labelledby="log-title">
        {lines().map(({ key, time, text }) => <li key={key}><time>{time}</time><span>{text}</span></li>)}
      </ol>
    </div>
  );
}
