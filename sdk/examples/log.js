// The tail of a log: a Subscription that begins ten minutes ago, can be paused, and goes on by its Cursor.

import { createClient } from "/tidegate.js";

const SHOWN = 500;
const SINCE_MS = 600_000;
const client = createClient();
const [write, service, text, filter, pause, shown, lines, curl] = ["write", "service", "text", "filter", "pause", "shown", "lines", "curl"].map((id) => document.getElementById(id));

client.on("state", (state) => (document.getElementById("state").textContent = state));
curl.textContent = `curl -d '{"level":"warn","text":"disk is 91 % full"}' ${location.host}/v1/topics/demo.log.disk/messages`;

const tail = client.pattern("demo.log.*").subscribe(
  ({ topic, time, data, deleted }) => {
    if (!deleted) line(time, topic.split(".").at(-1), String(data?.level ?? "info"), String(data?.text ?? JSON.stringify(data)));
  },
  { from: { since: new Date(Date.now() - SINCE_MS) } },
);
tail.on("gap", ({ reason, missed }) => line(new Date(), "tail", "warn", `${missed ?? "some"} lines are missing: ${reason}`));

write.onsubmit = (event) => {
  event.preventDefault();
  const data = { level: "info", text: text.value };
  text.value = "";
  client.topic(`demo.log.${service.value}`).publish(data).catch((fault) => line(new Date(), "tail", "error", fault.message));
};

pause.onclick = () => {
  const stop = pause.getAttribute("aria-pressed") === "false";
  if (stop) tail.pause();
  else tail.resume();
  pause.setAttribute("aria-pressed", String(stop));
  pause.textContent = stop ? "Go on" : "Stop";
};

filter.oninput = () => {
  for (const item of lines.children) sift(item);
  count();
};

function line(time, from, level, what) {
  const follows = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 4;
  const item = document.createElement("li");
  item.dataset.level = ["warn", "error"].includes(level) ? level : "info";
  item.textContent = `${time.toISOString().slice(11, 23)} ${level.padEnd(5)} ${from}: ${what}`;
  sift(item);
  lines.append(item);
  while (lines.children.length > SHOWN) lines.firstElementChild.remove();
  if (follows) lines.scrollTop = lines.scrollHeight;
  count();
}

function sift(item) {
  item.hidden = !item.textContent.toLowerCase().includes(filter.value.toLowerCase());
}

function count() {
  shown.textContent = `${lines.querySelectorAll("li:not([hidden])").length} of ${lines.children.length} lines`;
}
