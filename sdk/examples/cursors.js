// Everybody's pointer is a Topic of its own; the live map is who is there and where.

import { createClient } from "/tidegate.js";

const EVERY_MS = 50;
const GONE_MS = 15_000;
const STEP = 0.02;
const client = createClient();
const me = Math.random().toString(36).slice(2, 8);
const mine = client.topic(`demo.cursors.${me}`);
const all = client.pattern("demo.cursors.*").live();
const [field, count] = ["field", "count"].map((id) => document.getElementById(id));
const dots = new Map();
let place = { x: 0.5, y: 0.5 };
let told = place;

client.on("state", (state) => (document.getElementById("state").textContent = state));

field.onpointermove = (event) => {
  const box = field.getBoundingClientRect();
  move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
};
field.onkeydown = (event) => {
  const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
  if (!by) return;
  event.preventDefault();
  move(place.x + by[0], place.y + by[1]);
};

function move(x, y) {
  const within = (value) => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
  place = { x: within(x), y: within(y) };
}

/** Tells where it is when it has moved, and now and then that it is still there. */
let tellAgain = 0;
setInterval(() => {
  if (client.state !== "connected" || (place === told && Date.now() < tellAgain)) return;
  told = place;
  tellAgain = Date.now() + GONE_MS / 3;
  mine.publish({ ...place, at: Date.now() }).catch(() => {});
}, EVERY_MS);
// Gone is gone: a tombstone takes it off everybody's map.
addEventListener("pagehide", () => navigator.sendBeacon?.(`/v1/topics/demo.cursors.${me}/messages`, ""));

all.subscribe(draw);
setInterval(draw, GONE_MS / 3);

function draw() {
  const here = new Map([...all.snapshot()].filter(([, where]) => Date.now() - where?.at < GONE_MS));
  for (const [topic, dot] of dots) if (!here.has(topic)) dot.remove(), dots.delete(topic);
  for (const [topic, { x, y }] of here) {
    let dot = dots.get(topic);
    if (!dot) {
      const name = topic.split(".").at(-1);
      dot = Object.assign(document.createElement("span"), { className: "dot", textContent: name === me ? "you" : name });
      dot.style.setProperty("--hue", String(parseInt(name, 36) % 360));
      dots.set(topic, dot);
      field.append(dot);
    }
    dot.style.left = `${Number(x) * 100}%`;
    dot.style.top = `${Number(y) * 100}%`;
  }
  count.textContent = String(here.size);
}
