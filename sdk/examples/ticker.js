// Newest prices by a live map, and a minute of each behind them. A visitor sees prices at once, whenever one comes.

import { createClient } from "/tidegate.js";

const SYMBOLS = { BREEZE: 42.5, COVE: 118.2, DUNE: 7.81, ESTUARY: 260.4, FJORD: 93.3, GULL: 15.07 };
const POINTS = 120;
const EVERY_MS = 500;
const client = createClient();
const prices = document.getElementById("prices");
const rows = new Map();

client.on("state", (state) => (document.getElementById("state").textContent = state));

for (const symbol of Object.keys(SYMBOLS)) {
  const topic = `demo.ticker.${symbol}`;
  rows.set(topic, { points: [], ...row(symbol) });
  client.topic(topic).subscribe(({ data }) => take(topic, data), { from: { last: POINTS } });
}

function row(symbol) {
  const tr = prices.insertRow();
  const head = tr.appendChild(document.createElement("th"));
  Object.assign(head, { scope: "row", textContent: symbol });
  const [price, change] = [tr.insertCell(), tr.insertCell()];
  price.className = change.className = "number";
  price.textContent = "–";
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 120 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = svg.appendChild(document.createElementNS(svg.namespaceURI, "polyline"));
  tr.insertCell().append(svg);
  return { price, change, line };
}

/** Anyone may publish here: what is no price is none. */
function take(topic, data) {
  if (typeof data?.price !== "number" || !Number.isFinite(data.price)) return;
  const { points, price, change, line } = rows.get(topic);
  points.push(data.price);
  if (points.length > POINTS) points.shift();
  const [first, last] = [points[0], points.at(-1)];
  const percent = ((last - first) / first) * 100;
  price.textContent = last.toFixed(2);
  change.textContent = `${percent < 0 ? "▼" : "▲"} ${Math.abs(percent).toFixed(2)} %`;
  change.dataset.falls = String(percent < 0);
  const [low, high] = [Math.min(...points), Math.max(...points)];
  const y = (value) => 22 - ((value - low) / (high - low || 1)) * 20;
  line.setAttribute("points", points.map((value, at) => `${at + POINTS - points.length},${y(value).toFixed(1)}`).join(" "));
}

// The market: the tab that holds the lock; when it is closed, another goes on from the newest price.
await navigator.locks.request("ticker", async () => {
  const live = client.pattern("demo.ticker.*").live();
  await live.synced;
  for (;;) {
    for (const [symbol, start] of Object.entries(SYMBOLS)) {
      const topic = `demo.ticker.${symbol}`;
      const last = live.get(topic)?.price ?? start;
      const price = Math.max(0.5, last + (start - last) * 0.01 + last * 0.004 * (Math.random() - 0.5));
      await client.topic(topic).publish({ price: Math.round(price * 100) / 100 }).catch(() => {});
    }
    await new Promise((later) => setTimeout(later, EVERY_MS));
  }
});
