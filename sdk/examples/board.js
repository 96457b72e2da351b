// Each field of the board is a Topic, and the board is a live map of them. Who paints, publishes.

import { createClient } from "/tidegate.js";

const [WIDTH, HEIGHT] = [12, 8];
const COLOURS = ["teal", "orange", "violet", "green"];
const client = createClient();
const fields = client.pattern("demo.board.*").live();
const [board, colours, clear] = ["board", "colours", "clear"].map((id) => document.getElementById(id));
let colour = COLOURS[Math.floor(Math.random() * COLOURS.length)];

client.on("state", (state) => (document.getElementById("state").textContent = state));

for (const name of COLOURS) {
  const one = Object.assign(document.createElement("button"), { type: "button", textContent: name, className: name });
  one.setAttribute("role", "radio");
  one.onclick = () => choose(name);
  colours.append(one);
}

function choose(name) {
  colour = name;
  for (const one of colours.children) one.setAttribute("aria-checked", String(one.textContent === name));
}

for (let y = 0; y < HEIGHT; y += 1) {
  const row = document.createElement("div");
  row.setAttribute("role", "row");
  for (let x = 0; x < WIDTH; x += 1) {
    const cell = document.createElement("button");
    Object.assign(cell, { type: "button", tabIndex: x + y === 0 ? 0 : -1 });
    cell.setAttribute("role", "gridcell");
    cell.dataset.topic = `demo.board.${x}-${y}`;
    cell.onclick = () => paint(cell);
    row.append(cell);
  }
  board.append(row);
}

/** A second time with the same colour takes it off again: a tombstone. */
function paint({ dataset: { topic } }) {
  const field = client.topic(topic);
  const done = fields.get(topic) === colour ? field.delete() : field.publish(colour);
  done.catch(() => {});
}

/** Arrow keys walk; one field at a time can be reached by Tab. */
board.onkeydown = (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -WIDTH, ArrowDown: WIDTH }[event.key];
  const cells = [...board.querySelectorAll("button")];
  const to = cells[cells.indexOf(event.target) + by];
  if (!to) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
};

clear.onclick = async () => {
  for (const topic of fields.snapshot().keys()) await client.topic(topic).delete().catch(() => {});
};

fields.subscribe(draw);
choose(colour);
draw();

function draw() {
  for (const cell of board.querySelectorAll("button")) {
    const value = fields.get(cell.dataset.topic);
    cell.className = COLOURS.includes(value) ? value : "";
    const [x, y] = cell.dataset.topic.split(".").at(-1).split("-");
    cell.setAttribute("aria-label", `${Number(x) + 1}, ${Number(y) + 1}: ${cell.className || "empty"}`);
  }
}
