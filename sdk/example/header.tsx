// The head of the page: what this is, whether it is connected, and a switch that stops all movement.

import { useEffect, useState } from "preact/hooks";
import { client, info } from "./gateway.ts";
import { pause } from "./frames.ts";

const TICK_MS = 100;

const WORDS: Record<typeof client.state, string> = {
  idle: "Not connected",
  connecting: "Connecting",
  connected: "Connected",
  waiting: "Connection lost",
  offline: "Offline",
  paused: "Paused",
  closed: "Closed",
};
/** A state is told by its sign as well as by its colour. */
const SIGNS = { idle: "connecting", connecting: "connecting", connected: "connected", waiting: "waiting", offline: "waiting", paused: "waiting", closed: "stopped" } as const;

export function Header() {
  return (
    <header class="top">
      <div class="brand">
        <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
          <path class="mark-gate" d="M5 27V10a5 5 0 0 1 5-5h12a5 5 0 0 1 5 5v17" />
          <path class="mark-tide" d="M10 16c2-2 4-2 6 0s4 2 6 0M10 22c2-2 4-2 6 0s4 2 6 0" />
        </svg>
        <h1>Tidegate</h1>
        <p class="edition"><b>dev</b> {info.version}<span class="edition-note">throwaway key, {info.reach}</span></p>
      </div>
      <div class="top-right">
        <Pause />
        <Chip />
      </div>
    </header>
  );
}

function Pause() {
  const [on, set] = useState(false);
  const toggle = () => {
    pause(!on);
    set(!on);
  };
  return (
    <button type="button" class="quiet" id="pause" aria-pressed={on} onClick={toggle}>
      <svg viewBox="0 0 16 16" aria-hidden="true"><path d={on ? "M5 3.5 12 8l-7 4.5z" : "M5 3.5v9M11 3.5v9"} /></svg>
      <span class="pause-word">{on ? "Drawing paused" : "Pause drawing"}</span>
    </button>
  );
}

/** What the chip says behind its word. */
function detail(): [short: string, long?: string] {
  const { state, connection, retryAt } = client;
  if (state === "connected" && connection) return [`node ${connection.node} · ${connection.id}`];
  if (state === "waiting" && retryAt) return [`in ${(Math.max(0, retryAt.getTime() - Date.now()) / 1000).toFixed(1)} s`, "next try "];
  return [""];
}

/** Its word alone is announced, and only when it changes. */
function Chip() {
  const [, draw] = useState(0);
  useEffect(() => {
    let said = "";
    const look = () => {
      const says = `${client.state} ${detail().join()}`;
      if (says !== said) draw((n) => n + 1);
      said = says;
    };
    const off = client.on("state", look);
    const ticks = setInterval(look, TICK_MS);
    look();
    return () => {
      off();
      clearInterval(ticks);
    };
  }, []);
  const { state } = client;
  const [short, long] = detail();
  const idle = state === "waiting" || state === "offline" || state === "closed";
  return (
    <div class="chip" id="chip" data-state={SIGNS[state]} data-word={state}>
      <svg class="chip-icon" viewBox="0 0 20 20" aria-hidden="true"><Sign of={SIGNS[state]} /></svg>
      <span class="chip-word" id="state" role="status">{WORDS[state]}</span>
      <span class="chip-detail" id="detail">{long ? <span class="long">{long}</span> : null}{short}</span>
      {idle ? <button type="button" class="quiet" id="try-now" onClick={() => void client.connect().catch(() => {})}>Try now</button> : null}
    </div>
  );
}

function Sign({ of }: { of: (typeof SIGNS)[keyof typeof SIGNS] }) {
  switch (of) {
    case "connecting":
      return <circle class="turning" cx="10" cy="10" r="7" stroke-dasharray="3.2 2.3" />;
    case "connected":
      return <g><circle class="solid" cx="10" cy="10" r="8.5" /><path class="cutout" d="m6 10.4 2.7 2.7L14 7.4" /></g>;
    case "waiting":
      return <path d="M5 3h10M5 17h10M6.5 3c0 4 7 5.5 7 14M13.5 3c0 4-7 5.5-7 14" />;
    case "stopped":
      return <g><path class="solid" d="M6.5 2h7L18 6.5v7L13.5 18h-7L2 13.5v-7z" /><path class="cutout" d="m7 7 6 6m0-6-6 6" /></g>;
  }
}
