// A room: what was said last, then what is said. The history is the gateway's; this page keeps nothing.

import { createClient } from "/tidegate.js";

const SHOWN = 200;
const client = createClient();
const room = client.topic("demo.chat.lobby");
const [said, say, name, text] = ["said", "say", "name", "text"].map((id) => document.getElementById(id));

name.value = sessionStorage.getItem("name") ?? `guest-${Math.random().toString(36).slice(2, 5)}`;
client.on("state", (state) => (document.getElementById("state").textContent = state));

say.onsubmit = async (event) => {
  event.preventDefault();
  sessionStorage.setItem("name", name.value);
  const data = { name: name.value, text: text.value };
  text.value = "";
  // With a key it is sent again if the connection breaks before the answer, and stored once all the same.
  await room.publish(data, { key: crypto.randomUUID() }).catch((fault) => line("", `not sent: ${fault.message}`));
};

const subscription = room.subscribe({ from: { last: 50 } });
subscription.on("gap", ({ reason }) => line("", `something is missing here: ${reason}`));
for await (const { data, time, deleted } of subscription) {
  if (!deleted) line(String(data?.name ?? "?"), String(data?.text ?? ""), time);
}

/** Whatever comes is text, never markup. */
function line(who, what, when = new Date()) {
  const item = document.createElement("li");
  const [time, from] = [document.createElement("time"), document.createElement("b")];
  time.textContent = when.toLocaleTimeString();
  from.textContent = who;
  item.append(time, " ", from, " ", what);
  said.append(item);
  while (said.children.length > SHOWN) said.firstElementChild.remove();
  said.scrollTop = said.scrollHeight;
}
