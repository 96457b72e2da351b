/**
 * The page that `tidegate dev` serves at `/`: this machine's load over a live WebSocket, a button
 * that cuts it, a publish box, and a look at every Topic. Plain JavaScript against the public
 * protocol (`proto/README.md`) and the `/dev` routes; no library, no build, no request elsewhere.
 *
 * Read it from the top: the Link dials and comes back, the rest shows what it brings.
 *
 * WHAT COMES IN A MESSAGE IS HOSTILE: anyone may publish to `demo.**`. It reaches the document by
 * `textContent` alone, the charts as checked numbers, and every list has a bound.
 */

const CHART_TOPICS = ["demo.cpu", "demo.memory", "demo.network", "demo.gateway", "demo.counter"];
const WINDOW_MS = 60_000; // what a chart shows
const REDRAW_MS = 100; // at most ten a second, and none while hidden
const REDRAW_CALM_MS = 1_000; // the same under prefers-reduced-motion
const STABLE_MS = 5_000; // a Connection this old has earned a fresh back-off
const SILENCE_MS = 35_000; // the node pings after 25 s, so this is a dead socket
const CONNECT_MS = 12_000; // without `connected` by then: dial again
const COUNTER_LEAP = 10_000; // more was never missed while connected
const LAST = 100; // what a chart begins with: its 60 seconds
const TOPICS_MAX = 200;
const LOG_MAX = 40;
const CORES_MAX = 256;
const LATENCIES_MAX = 200;
const TEXT_MAX = 20_000; // characters of one value shown

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Makes an element; text goes in as text. */
function make(tag, properties = {}, ...children) {
  const { role, scope, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  if (role) element.setAttribute("role", role);
  if (scope) element.setAttribute("scope", scope);
  element.append(...children);
  return element;
}

/** Writes only what changed, so that a quiet page stays quiet. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function result(element, kind, text) {
  element.dataset.kind = kind;
  write(element, text);
}

// ---------------------------------------------------------------------------------------------
// Numbers to words
// ---------------------------------------------------------------------------------------------

const finite = (value) => (typeof value === "number" && Number.isFinite(value) ? Math.max(0, value) : null);
const plain = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
const percent = (value) => `${value.toFixed(value < 99.95 ? 1 : 0)} %`;
const perSecond = (value) => `${plain(value)}/s`;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function seconds(ms) {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
}

/** The next round number: a small one times a power of ten, counted in KiB, MiB, … for base 1,024. */
function ceiling(value, base) {
  let power = 1;
  if (base === 1024) while (power * 1024 <= value) power *= 1024;
  for (;;) {
    for (const step of [1, 2, 3, 4, 5, 6, 8]) if (value <= step * power) return step * power;
    power *= 10;
  }
}

// ---------------------------------------------------------------------------------------------
// The Link: one WebSocket at a time, and when the next one
// ---------------------------------------------------------------------------------------------

/** Close numbers that mean "stay away" where a close has no readable reason. */
const STAY_AWAY = new Set([1000, 1002, 1003, 1007, 1009, 4400, 4401, 4403, 4413]);

/**
 * Dials, answers pings, and comes back as the close reason says. States: `connecting`, `connected`,
 * `waiting` (`nextAt` is the next try), `stopped` (by the node's will).
 */
class Link {
  state = "connecting";
  connected = null; // the `connected` Frame
  nextAt = 0;
  #socket = null;
  #tries = 0;
  #heard = 0; // when the last Frame came
  #timers = new Set();

  constructor({ url, onstate, onframe, onlost }) {
    Object.assign(this, { url, onstate, onframe, onlost });
    setInterval(() => this.#watch(), 1_000);
  }

  dial() {
    this.#leave();
    this.#enter("connecting");
    const socket = new WebSocket(this.url());
    this.#socket = socket;
    this.#heard = Date.now();
    // A socket that was left behind no longer speaks for the Link.
    socket.onmessage = (event) => socket === this.#socket && this.#frame(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#closed(event.code, event.reason);
  }

  /** The page goes away: a goodbye, and no further try until `dial`. */
  leave() {
    const was = this.state;
    this.#leave();
    this.#enter("stopped");
    if (was === "connected") this.onlost("the page was left");
  }

  /** Sends a Command; false while there is no Connection to send it on. */
  send(command) {
    if (this.state !== "connected") return false;
    this.#socket.send(JSON.stringify(command));
    return true;
  }

  #frame(text) {
    this.#heard = Date.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return; // not ours to understand; the next one may be
    }
    if (frame === null || typeof frame !== "object") return;
    switch (frame.type) {
      case "connected":
        this.connected = frame;
        this.#after(STABLE_MS, () => (this.#tries = 0));
        this.#enter("connected");
        break;
      case "ping":
        this.#socket.send('{"type":"pong"}');
        return;
      case "going_away": // the node drains: each client has its slot
        this.#after(finite(frame.reconnect_in_ms) ?? 0, () => {
          this.#leave();
          this.onlost("moved away as the node asked");
          this.dial();
        });
        break;
    }
    this.onframe(frame);
  }

  #closed(number, text) {
    const wasConnected = this.state === "connected";
    this.#leave();
    let reason = {};
    try {
      reason = JSON.parse(text) ?? {};
    } catch {
      // none, or not ours: the number decides
    }
    const why = typeof reason.code === "string" ? `${reason.code} (${number})` : `no goodbye (${number})`;
    const stay = typeof reason.retry === "boolean" ? !reason.retry : STAY_AWAY.has(number);
    if (stay) {
      this.#enter("stopped", why);
    } else {
      const told = finite(reason.ms);
      const wait = told ?? Math.random() * Math.min(30_000, 500 * 2 ** this.#tries);
      if (told === null) this.#tries += 1;
      this.nextAt = Date.now() + wait;
      this.#after(wait, () => this.dial());
      this.#enter("waiting");
    }
    if (wasConnected) this.onlost(why);
  }

  /** A socket may be dead without a word; timers sleep with the machine, so look at the clock. */
  #watch() {
    if (!this.#socket) return;
    const limit = this.state === "connected" ? SILENCE_MS : CONNECT_MS;
    if (Date.now() - this.#heard > limit) this.#closed(1006, "");
  }

  #leave() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  #enter(state, why = "") {
    this.state = state;
    this.onstate(state, why);
  }

  #after(ms, act) {
    this.#timers.add(setTimeout(act, ms));
  }
}

// ---------------------------------------------------------------------------------------------
// Charts: drawn by hand on a canvas, with the newest values in a table beside
// ---------------------------------------------------------------------------------------------

const DASHES = [[], [7, 3], [2, 2.5], [9, 3, 2, 3]]; // a line is told by its stroke, not by colour alone
let ink = {};

function readInk() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  ink = {
    series: [0, 1, 2, 3, 4, 5].map((n) => of(`--s${n}`)),
    grid: of("--grid"), soft: of("--soft"), edge: of("--edge"), away: of("--away"), wait: of("--wait"), panel: of("--panel"),
    font: `11px ${of("--sans")}`,
  };
}

/** Sizes a canvas to its box in device pixels, and hands out a clean context in CSS pixels. */
function canvasOf(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The stretches without a Connection: `{from, to}`, `to` null while it lasts. */
const absences = [];

class Chart {
  #points = []; // {at, values}
  #rows = new Map(); // label -> its cell
  #lines = []; // {label, bold?, faint?} for each value
  #canvas;
  #body;

  /** `read(data)` gives `{lines, values, rows, top?}` or null for data that is not what it should be. */
  constructor(id, { read, format, floor, base = 10, fill = false }) {
    Object.assign(this, { read, format, floor, base, fill });
    this.#canvas = $(id).querySelector("canvas");
    this.#body = $(id).querySelector("tbody");
  }

  take(data, at) {
    const reading = data && typeof data === "object" ? this.read(data) : null;
    if (!reading) return;
    this.#lines = reading.lines;
    this.top = reading.top;
    this.#points.push({ at, values: reading.values });
    while (this.#points.length > 1 && this.#points[1].at < at - WINDOW_MS) this.#points.shift();
    if (this.#points.length > 1_000) this.#points.shift(); // someone else publishes here as well
    this.newest = reading.rows;
  }

  draw(now) {
    if (this.newest) this.#table(this.newest);
    this.newest = null;
    const { context, width, height } = canvasOf(this.#canvas);
    const plot = { top: 8, bottom: height - 18, left: 0, right: width - 5 };
    const x = (at) => plot.right - ((now - at) / WINDOW_MS) * (plot.right - plot.left);
    const most = this.#points.reduce((most, { values }) => Math.max(most, ...values), 0);
    const top = this.top ?? ceiling(Math.max(this.floor, most * 1.05), this.base);
    const y = (value) => plot.bottom - (Math.min(value, top) / top) * (plot.bottom - plot.top);

    context.save();
    context.beginPath();
    context.rect(plot.left, 0, width, height);
    context.clip();
    this.#frame(context, plot, x, now, top, y);
    shadeAbsences(context, plot, x, now);
    const order = this.#lines.map((_, n) => n).sort((a, b) => Boolean(this.#lines[a].bold) - Boolean(this.#lines[b].bold));
    for (const n of order) this.#line(context, n, plot, x, y);
    context.restore();
    this.#scale(context, plot, top, y);
  }

  #frame(context, plot, x, now, top, y) {
    context.lineWidth = 1;
    context.strokeStyle = ink.grid;
    context.beginPath();
    for (const part of [0, 0.5, 1]) {
      const level = Math.round(y(top * part)) + 0.5;
      context.moveTo(plot.left, level);
      context.lineTo(plot.right, level);
    }
    context.stroke();
    context.font = ink.font;
    context.fillStyle = ink.soft;
    context.textBaseline = "alphabetic";
    for (const [ago, align] of [[60, "left"], [45, "center"], [30, "center"], [15, "center"], [0, "right"]]) {
      context.textAlign = align;
      context.fillText(ago ? `${ago} s` : "now", x(now - ago * 1000), plot.bottom + 15);
    }
  }

  /** The scale's words lie on the plot, each with a rim in the panel's colour to be read over a line. */
  #scale(context, plot, top, y) {
    Object.assign(context, { font: ink.font, textAlign: "left", fillStyle: ink.soft, strokeStyle: ink.panel, lineWidth: 4, lineJoin: "round" });
    context.setLineDash([]);
    for (const part of [0.5, 1]) {
      const place = [this.format(top * part), plot.left + 1, y(top * part) + 13];
      context.strokeText(...place);
      context.fillText(...place);
    }
  }

  #line(context, n, plot, x, y) {
    const { bold, faint } = this.#lines[n];
    const style = this.#lines[n].style ?? n;
    const colour = faint ? ink.edge : ink.series[style % ink.series.length];
    Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: faint ? 1 : bold ? 2.25 : 1.75, lineJoin: "round", globalAlpha: faint ? 0.45 : 1 });
    context.setLineDash(faint ? [] : DASHES[style % DASHES.length]);
    for (const run of this.#runs(n)) {
      context.beginPath();
      run.forEach(({ at, values }, index) => context[index ? "lineTo" : "moveTo"](x(at), y(values[n])));
      context.stroke();
      if (this.fill && n === 0) {
        context.lineTo(x(run.at(-1).at), plot.bottom);
        context.lineTo(x(run[0].at), plot.bottom);
        context.globalAlpha = 0.13;
        context.fill();
        context.globalAlpha = 1;
      }
    }
    const last = this.#points.at(-1);
    if (!faint && last && last.values[n] !== undefined) {
      context.beginPath();
      context.arc(x(last.at), y(last.values[n]), 2.75, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** A line is not drawn over a stretch in which nothing came. */
  *#runs(n) {
    let run = [];
    for (const point of this.#points) {
      if (run.length && point.at - run.at(-1).at > 1_800 || point.values[n] === undefined) {
        if (run.length) yield run;
        run = [];
      }
      if (point.values[n] !== undefined) run.push(point);
    }
    if (run.length) yield run;
  }

  #table(rows) {
    const labels = rows.map(({ label }) => label);
    if (labels.join("\n") !== [...this.#rows.keys()].join("\n")) {
      this.#rows = new Map(rows.map(({ label, style }) => {
        const cell = make("td");
        const head = make("th", { scope: "row" }, ...(style === undefined ? [] : [key(style)]), label);
        this.#body.append(make("tr", {}, head, cell));
        return [label, cell];
      }));
      this.#body.replaceChildren(...[...this.#rows.values()].map((cell) => cell.parentElement));
      const box = this.#body.closest(".newest-box");
      if (box.scrollHeight > box.clientHeight + 1) {
        box.tabIndex = 0; // to be scrolled by keys
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", this.#body.parentElement.caption.textContent);
      }
    }
    for (const { label, text } of rows) write(this.#rows.get(label), text);
  }
}

/** A piece of the line that a row of the table speaks of. */
function key(style) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "path");
  for (const [name, value] of [["class", "key"], ["viewBox", "0 0 20 8"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
  for (const [name, value] of [["d", "M0 4h20"], ["stroke", `var(--s${style % 6})`], ["stroke-dasharray", DASHES[style % DASHES.length].join(" ") || "none"]]) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

function shadeAbsences(context, plot, x, now) {
  for (const { from, to } of absences) {
    const [left, right] = [x(from), x(to ?? now)];
    if (right < plot.left) continue;
    context.fillStyle = ink.away;
    context.fillRect(left, plot.top, Math.max(right - left, 1), plot.bottom - plot.top);
    context.strokeStyle = ink.wait;
    context.lineWidth = 1;
    context.setLineDash([2, 3]);
    context.strokeRect(left, plot.top, Math.max(right - left, 0.5), plot.bottom - plot.top);
    context.setLineDash([]);
    if ((to ?? now) - from < 500) continue; // a word would be wider than the matter
    context.font = ink.font;
    context.fillStyle = ink.wait;
    context.textAlign = right - left > 34 ? "center" : right > 60 ? "right" : "left";
    const place = right - left > 34 ? (left + right) / 2 : right > 60 ? left - 4 : right + 4;
    context.fillText("away", place, plot.top + 12);
  }
}

const charts = {
  "demo.cpu": new Chart("cpu", {
    format: (value) => `${value} %`,
    floor: 100,
    read({ cores }) {
      if (!Array.isArray(cores) || cores.length === 0) return null;
      const values = cores.slice(0, CORES_MAX).map((core) => Math.min(100, finite(core) ?? 0));
      const each = values.map((value, n) => ({ label: `core ${n}`, style: n, text: percent(value) }));
      if (values.length <= 8) return { top: 100, lines: each, values, rows: each };
      // Too many lines to tell apart: two that matter, the others as a shadow, the table has them all.
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const most = Math.max(...values);
      const heads = [{ label: "mean", style: 0, bold: true, text: percent(mean) }, { label: "busiest", style: 1, bold: true, text: percent(most) }];
      const shadows = each.map(({ label, text }) => ({ label, text, faint: true }));
      return { top: 100, lines: [...heads, ...shadows], values: [mean, most, ...values], rows: [...heads, ...shadows] };
    },
  }),
  "demo.memory": new Chart("memory", {
    format: bytes,
    floor: 1024,
    base: 1024,
    fill: true,
    read(data) {
      const [used, total] = [finite(data.used), finite(data.total)];
      if (used === null || !total) return null;
      const rows = [{ label: "used", style: 0, text: bytes(used) }, { label: "of", text: bytes(total) }, { label: "share", text: percent((used / total) * 100) }];
      return { top: total, lines: rows.slice(0, 1), values: [used], rows };
    },
  }),
  "demo.network": new Chart("network", {
    format: (value) => `${bytes(value)}/s`,
    floor: 1024,
    base: 1024,
    read(data) {
      const [received, sent] = [finite(data.received), finite(data.sent)];
      if (received === null || sent === null) return null;
      const rows = [{ label: "in", style: 0, text: `${bytes(received)}/s` }, { label: "out", style: 1, text: `${bytes(sent)}/s` }];
      return { lines: rows, values: [received, sent], rows };
    },
  }),
  "demo.gateway": new Chart("gateway", {
    format: perSecond,
    floor: 10,
    read(data) {
      const [deliveries, publications] = [finite(data.deliveries), finite(data.publications)];
      if (deliveries === null || publications === null) return null;
      // A Publication counts once for each Feed and Shard that it goes through, so this is no rate of publishing.
      const rows = [{ label: "deliveries", style: 0, text: perSecond(deliveries) }, { label: "into shards", style: 1, text: perSecond(publications) }];
      const counts = ["connections", "subscriptions"].map((label) => ({ label, text: plain(finite(data[label]) ?? 0) }));
      return { lines: rows, values: [deliveries, publications], rows: [...rows, ...counts] };
    },
  }),
};

// ---------------------------------------------------------------------------------------------
// The counter: dense, so it proves what was missed
// ---------------------------------------------------------------------------------------------

const counter = {
  last: null, // the newest number
  strokes: [], // true: came, false: missed; newest last
  strange: 0, // how many odd numbers in a row
  received: 0,
  missed: 0,
  lostAt: null, // set while the first number after an absence is awaited
  backAt: null,
  brought: "0", // how many came back from history

  take(data) {
    const n = finite(data?.n);
    if (n === null || !Number.isSafeInteger(n)) return;
    const before = this.last;
    const away = this.lostAt === null ? null : (this.backAt ?? Date.now()) - this.lostAt;
    this.lostAt = this.backAt = null;
    // Anyone may publish here. A number that cannot be the next is a stranger's, unless it goes on.
    const odd = before !== null && away === null && (n <= before || n - before > COUNTER_LEAP);
    this.strange = odd ? this.strange + 1 : 0;
    if (odd) {
      if (this.strange >= 5) this.last = n;
      return;
    }
    this.last = n;
    this.received += 1;
    if (before !== null && n <= before) {
      write($("report"), "missed while away: unknown, the counter began again (the node was restarted)");
    } else {
      const missed = before === null ? 0 : n - before - 1;
      this.missed += missed;
      for (let i = Math.min(missed, 300); i > 0; i -= 1) this.strokes.push(false);
      if (away !== null && before !== null) {
        const brought = missed ? "history did not reach back so far" : `${this.brought} came back from history`;
        write($("report"), `missed while away: ${missed.toLocaleString("en")} (${brought})`);
        note(`back after ${seconds(away)}, missed ${missed.toLocaleString("en")}: ${brought}`);
      } else if (missed) {
        note(`missed ${missed.toLocaleString("en")} while connected`);
      }
    }
    if (away !== null) write($("away"), `time away: ${(away / 1000).toFixed(2)} s`);
    this.strokes.push(true);
    this.strokes.splice(0, this.strokes.length - 600);
  },

  draw() {
    const { context, width, height } = canvasOf($("ribbon"));
    const step = 5;
    const shown = this.strokes.slice(-Math.floor(width / step));
    context.lineWidth = 1;
    shown.forEach((came, index) => {
      const x = width - (shown.length - index) * step + 1;
      const fifth = (this.last - (shown.length - 1 - index)) % 5 === 0;
      const tall = fifth ? height - 10 : height - 24;
      const y = height / 2 - tall / 2;
      if (came) {
        context.fillStyle = ink.series[0];
        context.fillRect(x, y, 3, tall);
      } else {
        context.strokeStyle = ink.wait;
        context.strokeRect(x + 0.5, y + 0.5, 2, tall - 1);
      }
    });
    write($("counter-newest"), this.last === null ? "–" : this.last.toLocaleString("en"));
    write($("counter-received"), this.received.toLocaleString("en"));
    write($("counter-missed"), this.missed.toLocaleString("en"));
  },
};

// ---------------------------------------------------------------------------------------------
// Delivery latency: from a Publication's time to its arrival here (one clock, in dev)
// ---------------------------------------------------------------------------------------------

const latencies = [];

function measure(time) {
  const ms = Date.now() - Date.parse(time);
  if (!Number.isFinite(ms)) return;
  latencies.push(Math.max(0, ms)); // two clocks may differ by a rounding
  if (latencies.length > LATENCIES_MAX) latencies.shift();
}

function drawLatency() {
  if (!latencies.length) return;
  const sorted = [...latencies].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  const words = (ms) => (ms < 1 ? "< 1 ms" : `${plain(ms)} ms`);
  write($("latency-median"), words(at(0.5)));
  write($("latency-high"), words(at(0.95)));
}

// ---------------------------------------------------------------------------------------------
// Topics: the newest value of each that the Pattern matches
// ---------------------------------------------------------------------------------------------

function matches(pattern, topic) {
  const [want, have] = [pattern.split("."), topic.split(".")];
  for (let i = 0; i < want.length; i += 1) {
    if (want[i] === ">") return have.length > i;
    if (i >= have.length || (want[i] !== "*" && want[i] !== have[i])) return false;
  }
  return want.length === have.length;
}

const inspector = {
  pattern: "demo.>",
  asked: null, // {id, pattern}: a subscribe that waits for its Reply
  topics: new Map(), // the longest silent first
  left: 0, // how many made room for others
  paused: false,
  came: 0, // while paused
  nextId: 1,

  /** Asks for a Pattern; the old one stays until the node has taken the new one. */
  watch(typed) {
    const pattern = typed.trim().replace(/(^|\.)\*\*$/, "$1>");
    if (CHART_TOPICS.includes(pattern)) return this.adopt(pattern); // the charts hold it already
    this.asked = { id: this.nextId, pattern };
    this.nextId += 1;
    const sent = link.send({ type: "subscribe", id: this.asked.id, topic: pattern, from: "last" });
    if (!sent) this.tell("", "Waits for the connection.");
  },

  /** A new Connection knows nothing of the old one's Subscriptions. */
  resume() {
    if (!CHART_TOPICS.includes(this.pattern)) link.send({ type: "subscribe", topic: this.pattern, from: "last" });
    if (this.asked) this.watch(this.asked.pattern);
  },

  adopt(pattern) {
    this.asked = null;
    if (pattern !== this.pattern) {
      if (!CHART_TOPICS.includes(this.pattern)) link.send({ type: "unsubscribe", topic: this.pattern });
      this.pattern = pattern;
      this.topics.clear();
      this.left = 0;
      $("topics").replaceChildren();
    }
    $("pattern").removeAttribute("aria-invalid");
    this.tell("", "");
  },

  /** True if the Frame was the answer to its question. */
  reply(frame) {
    if (!this.asked || frame.id !== this.asked.id) return false;
    if (frame.type === "subscribed" || frame.code === "already_subscribed") {
      this.adopt(typeof frame.topic === "string" && frame.type === "subscribed" ? frame.topic : this.asked.pattern);
    } else if (frame.type === "error") {
      this.asked = null;
      $("pattern").setAttribute("aria-invalid", "true");
      this.tell("bad", `${frame.code}: ${frame.message} (still watching ${this.pattern})`);
    }
    return true;
  },

  tell(kind, text) {
    result($("pattern-note"), kind, text);
  },

  take(frame) {
    if (!matches(this.pattern, frame.topic)) return;
    const now = Date.now();
    let entry = this.topics.get(frame.topic);
    if (entry?.frame.id === frame.id) return; // its newest value, once more
    if (entry) this.topics.delete(frame.topic); // to the young end
    else entry = { topic: frame.topic, count: 0, since: now, ticks: [], row: null, whole: null };
    Object.assign(entry, { frame, at: now, changed: true });
    entry.count += 1;
    const second = Math.floor(now / 1000);
    if (entry.ticks.at(-1)?.second === second) entry.ticks.at(-1).count += 1;
    else entry.ticks.push({ second, count: 1 });
    if (entry.ticks.length > 7) entry.ticks.shift();
    this.topics.set(frame.topic, entry);
    if (this.paused) this.came += 1;
    if (this.topics.size > TOPICS_MAX) {
      const [oldest] = this.topics.values();
      this.topics.delete(oldest.topic);
      this.left += 1;
    }
  },

  /** Over the last five whole seconds, fewer for a young Topic. */
  rate(entry, now) {
    const second = Math.floor(now / 1000);
    const sum = entry.ticks.reduce((sum, tick) => (tick.second >= second - 5 && tick.second < second ? sum + tick.count : sum), 0);
    const whole = Math.min(5, second - Math.floor(entry.since / 1000));
    return whole > 0 ? sum / whole : entry.count;
  },

  draw(now) {
    const bound = `At most ${TOPICS_MAX} Topics are kept, the longest silent goes first`;
    write($("topics-bound"), this.paused
      ? `Paused: the list stands still, ${this.came.toLocaleString("en")} came since.`
      : this.left ? `${bound}: ${this.left.toLocaleString("en")} left the list.` : `${this.topics.size} of ${TOPICS_MAX} Topics. ${bound}.`);
    if (this.paused) return;
    const body = $("topics");
    for (const row of body.querySelectorAll("tr[data-topic]")) {
      if (!this.topics.has(row.dataset.topic)) {
        row.nextElementSibling?.matches(".whole") && row.nextElementSibling.remove();
        row.remove();
      }
    }
    for (const entry of this.topics.values()) {
      if (!entry.row?.isConnected) this.place(entry, body);
      if (entry.changed) this.fill(entry);
      write(entry.cells.rate, this.rate(entry, now).toFixed(1));
      write(entry.cells.age, seconds(Math.max(0, now - entry.at)));
    }
    $("topics-empty").hidden = this.topics.size > 0;
  },

  /** New rows go to their place by name, so that no row moves under a hand. */
  place(entry, body) {
    const button = make("button", { type: "button", textContent: entry.topic, title: entry.topic });
    button.setAttribute("aria-expanded", "false");
    button.onclick = () => this.open(entry, button);
    const cell = (className) => make("td", { className, role: "cell" });
    entry.cells = { value: cell("value"), count: cell("number count"), rate: cell("number rate"), age: cell("number age") };
    const head = make("th", { scope: "row", role: "rowheader" }, button);
    entry.row = make("tr", { role: "row", className: "fresh" }, head, ...Object.values(entry.cells));
    entry.row.dataset.topic = entry.topic;
    entry.whole = null;
    entry.changed = true;
    const next = [...body.querySelectorAll("tr[data-topic]")].find((row) => row.dataset.topic > entry.topic);
    body.insertBefore(entry.row, next ?? null);
  },

  open(entry, button) {
    const opens = !entry.whole;
    button.setAttribute("aria-expanded", String(opens));
    if (!opens) {
      entry.whole.row.remove();
      entry.whole = null;
      return;
    }
    const whole = { about: make("p", { className: "about" }), text: make("pre", { tabIndex: 0 }) };
    whole.text.setAttribute("aria-label", `Newest value of ${entry.topic}`);
    whole.row = make("tr", { className: "whole", role: "row" }, make("td", { colSpan: 5, role: "cell" }, whole.about, whole.text));
    entry.whole = whole;
    entry.row.after(whole.row);
    this.fill(entry);
  },

  fill(entry) {
    const { frame, cells, whole } = entry;
    entry.changed = false;
    write(cells.value, cut(valueOf(frame, 0), 240));
    cells.value.dataset.kind = frame.deleted ? "deleted" : "";
    write(cells.count, entry.count.toLocaleString("en"));
    if (!whole) return;
    write(whole.about, `id ${frame.id} · ${frame.time}${frame.user ? ` · by ${frame.user}` : ""}`);
    write(whole.text, cut(valueOf(frame, 2), TEXT_MAX));
  },
};

function valueOf(frame, indent) {
  if (frame.deleted) return "(deleted: this Topic has no value)";
  if (typeof frame.data_base64 === "string") return `base64 ${frame.data_base64}`;
  return JSON.stringify(frame.data, null, indent) ?? "";
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most)} … (${text.length.toLocaleString("en")} characters)` : text);

// ---------------------------------------------------------------------------------------------
// The Connection: chip, log and the cut
// ---------------------------------------------------------------------------------------------

const info = { version: "", token: null, command: "tidegate", reach: "this machine only" };
let asked401 = 0; // how often in a row the Token was refused
let stopped = "";

const WORDS = { connecting: "Connecting", connected: "Connected", waiting: "Connection lost", stopped: "Stopped" };

function note(text) {
  const time = make("time", { textContent: new Date().toLocaleTimeString("en-GB") });
  $("log").prepend(make("li", {}, time, make("span", { textContent: text })));
  while ($("log").children.length > LOG_MAX) $("log").lastElementChild.remove();
}

/**
 * Where the charts' Subscriptions go on: everything up to this Cursor has come. What is replayed belongs
 * to one Subscription, so it says nothing of the others, and the place stands still until all are live.
 */
const place = {
  cursor: null,
  waits: new Set(), // Topics of charts that are not live yet
  part: { topic: "", left: 0 }, // whose the next Publications are alone, and how many
  had: new Map(), // Topic of a chart -> the Cursor of its newest

  begin() {
    this.waits = new Set(CHART_TOPICS);
    this.part = { topic: "", left: 0 };
  },

  /** A `subscribed` or `replay`. */
  head({ topic, replayed, more }) {
    this.part = { topic, left: finite(replayed) ?? 0 };
    if (more !== true) this.waits.delete(topic);
  },

  /** Whose alone a Publication is; null if it belongs to all that match. */
  owner() {
    if (this.part.left === 0) return null;
    this.part.left -= 1;
    return this.part.topic;
  },

  reach(cursor) {
    if (typeof cursor === "string" && this.waits.size === 0) this.cursor = cursor;
  },

  /** Whether a chart has not had this one: within one Epoch, Offsets tell. */
  isNew({ topic, cursor }) {
    const [epoch, offset] = String(cursor).split("-");
    const [oldEpoch, oldOffset] = (this.had.get(topic) ?? "").split("-");
    if (epoch === oldEpoch && Number.parseInt(offset, 16) <= Number.parseInt(oldOffset, 16)) return false;
    this.had.set(topic, String(cursor));
    return true;
  },
};

function address() {
  const url = new URL("/v1/connect", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  for (const topic of CHART_TOPICS) url.searchParams.append("topic", topic);
  if (place.cursor) url.searchParams.set("cursor", place.cursor);
  else url.searchParams.set("last", LAST);
  url.searchParams.set("heartbeat", "message");
  url.searchParams.set("client", "tidegate-dev-page/1");
  if (info.token) url.searchParams.set("token", info.token);
  return url;
}

function stateChanged(state, why) {
  $("chip").dataset.state = state;
  write($("state"), WORDS[state]);
  stopped = why;
  const idle = state === "waiting" || state === "stopped";
  if (!idle && document.activeElement === $("try-now")) $("cut").focus({ preventScroll: true }); // it hides
  $("try-now").hidden = !idle;
  $("try-now").textContent = state === "stopped" ? "Connect" : "Try now";
  $("cut").setAttribute("aria-disabled", String(state !== "connected")); // `disabled` would drop the focus
  if (state === "stopped" && why) note(`the node said to stay away: ${why}`);
  // "Once, with a fresh Token"; a second refusal, and the page is content with what anyone may do.
  if (state === "stopped" && /^(unauthenticated|token_expired)\b|\(4401\)/.test(why) && asked401 < 2) {
    asked401 += 1;
    ask().then(() => {
      if (asked401 === 2) info.token = null;
      link.dial();
    });
  }
  drawChip();
}

function drawChip() {
  const { connection, node } = link.connected ?? {};
  const left = Math.max(0, link.nextAt - Date.now());
  const detail = { connecting: "", connected: `node ${node} · ${connection}`, waiting: `next try in ${(left / 1000).toFixed(1)} s`, stopped };
  write($("detail"), detail[link.state]);
}

function lost(why) {
  const now = Date.now();
  note(`lost: ${why}`);
  absences.push({ from: now, to: null });
  if (absences.length > 60) absences.shift();
  counter.lostAt ??= now;
}

function took(frame) {
  if (frame.type === "subscribed" || frame.type === "replay") place.head(frame);
  if (frame.type === "error" && frame.code === "too_many_topics") {
    link.send({ type: "subscribe", id: frame.id, topic: frame.topic }); // then without their newest values
    return;
  }
  if (inspector.reply(frame)) return;
  switch (frame.type) {
    case "connected": {
      const absence = absences.at(-1);
      if (absence) absence.to ??= Date.now();
      if (counter.lostAt !== null) counter.backAt = Date.now();
      asked401 = 0;
      place.begin();
      note(`connected to ${frame.node} as ${frame.connection}`);
      inspector.resume();
      break;
    }
    case "subscribed":
      if (frame.topic === "demo.counter") counter.brought = `${plain(finite(frame.replayed) ?? 0)}${frame.more ? " and more" : ""}`;
      if (frame.recovered === false && CHART_TOPICS.includes(frame.topic)) note(`${frame.topic} has a hole: ${frame.reason}`);
      break;
    case "message": {
      const owner = place.owner();
      if (typeof frame.topic !== "string") break;
      if (owner === null) {
        measure(frame.time);
        if (frame.topic.startsWith("demo.")) place.reach(frame.cursor);
      }
      const charted = CHART_TOPICS.includes(frame.topic) && (owner === null || owner === frame.topic);
      if (charted && place.isNew(frame)) {
        charts[frame.topic]?.take(frame.data, owner === null ? Date.now() : Date.parse(frame.time) || Date.now());
        if (frame.topic === "demo.counter") counter.take(frame.data);
      }
      if (owner === null || owner === inspector.pattern) inspector.take(frame);
      break;
    }
    case "position":
      if (frame.namespace === "demo") place.reach(frame.cursor);
      break;
    case "gap":
      note(`gap in ${frame.topic}: ${frame.reason}${frame.missed ? `, ${frame.missed} missed` : ""}`);
      break;
    case "bus":
      note(frame.connected ? "the node has its bus again" : "the node lost its bus");
      break;
    case "going_away":
      note(`the node drains; we move in ${seconds(finite(frame.reconnect_in_ms) ?? 0)}`);
      break;
    case "error":
      note(`error${frame.topic ? ` for ${frame.topic}` : ""}: ${frame.code}, ${frame.message}`);
      break;
  }
}

const link = new Link({ url: address, onstate: stateChanged, onframe: took, onlost: lost });

$("try-now").onclick = () => link.dial();

$("cut").onclick = async () => {
  if (link.state !== "connected") return;
  result($("cut-result"), "", "");
  note("asked the node to cut this connection");
  const connection = link.connected?.connection;
  const answer = await call("POST", "/dev/cut", JSON.stringify({ connection }), { "Content-Type": "application/json" });
  if (!answer.ok) result($("cut-result"), "bad", answer.text);
};

addEventListener("pagehide", () => link.leave());
addEventListener("pageshow", (event) => event.persisted && link.dial());
addEventListener("online", () => link.state === "waiting" && link.dial());

// ---------------------------------------------------------------------------------------------
// HTTP: publish, delete, and lines to copy
// ---------------------------------------------------------------------------------------------

/** One call; `{ok, body}` or `{ok: false, text}` with what the problem says. */
async function call(method, path, body, headers = {}) {
  let response, text;
  try {
    response = await fetch(path, { method, body, headers, signal: AbortSignal.timeout(20_000) });
    text = await response.text();
  } catch (error) {
    return { ok: false, status: 0, text: `No answer: ${error.message}.` };
  }
  let parsed = null;
  try {
    parsed = JSON.parse(text);
  } catch {
    // a bare answer of the HTTP library
  }
  const { status } = response;
  if (response.ok) return { ok: true, status, body: parsed };
  const problem = parsed?.code ? `${parsed.code}: ${parsed.detail ?? parsed.title} (${status}${parsed.retryable ? ", worth another try" : ""})` : `HTTP ${status} ${cut(text, 200)}`;
  return { ok: false, status, text: problem };
}

/** Fetches version and Token; without them the page is an anonymous client, which `demo.**` lets in. */
async function ask() {
  const answer = await call("GET", "/dev/info");
  if (answer.ok && answer.body) Object.assign(info, answer.body);
  write($("version"), info.version);
  write($("reach"), `throwaway key, ${info.reach}`);
  showLines();
}

async function publish(method) {
  const topic = $("publish-topic").value.trim();
  const line = $("publish-result");
  $("publish-topic").toggleAttribute("aria-invalid", false);
  if (!topic) return refuse("A Topic is needed, such as demo.hello.");
  result(line, "", "Sending …");
  const path = `/v1/topics/${encodeURIComponent(topic)}${method === "POST" ? "/messages" : ""}`;
  const send = () => call(method, path, method === "POST" ? $("publish-payload").value : undefined, info.token ? { Authorization: `Bearer ${info.token}` } : {});
  let answer = await send();
  if (answer.status === 401) {
    await ask(); // a Token dies with its process
    answer = await send();
  }
  if (!answer.ok) return refuse(answer.text);
  const { id, stored, duplicate } = answer.body ?? {};
  const done = method === "POST" ? `Published to ${topic}` : `Deleted the value of ${topic}`;
  result(line, "good", `${done}: id ${id}, ${stored ? "stored" : "not stored (best effort)"}${duplicate ? ", a duplicate" : ""}`);

  function refuse(text) {
    if (/^(A Topic|invalid_topic)/.test(text)) $("publish-topic").setAttribute("aria-invalid", "true");
    result(line, "bad", text);
  }
}

function describePayload() {
  const text = $("publish-payload").value;
  let kind = "JSON";
  try {
    JSON.parse(text);
  } catch {
    kind = text === "" ? "empty: a tombstone" : "no JSON: arrives as text";
  }
  write($("payload-kind"), kind);
}

$("publish").onsubmit = (event) => (event.preventDefault(), publish("POST"));
$("publish-delete").onclick = () => publish("DELETE");
$("publish-payload").oninput = describePayload;
$("publish-payload").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) publish("POST");
});

$("pattern-form").onsubmit = (event) => {
  event.preventDefault();
  if ($("pattern").value.trim()) inspector.watch($("pattern").value);
};

$("pause").onclick = () => {
  inspector.paused = !inspector.paused;
  inspector.came = 0;
  $("pause").setAttribute("aria-pressed", String(inspector.paused));
};

function showLines() {
  const { origin, host } = location;
  const socket = origin.replace(/^http/, "ws");
  const elsewhere = host === "localhost:8080" ? "" : ` --url ${origin}`;
  const lines = [
    ["Publish with curl", `curl -d '{"v":42}' ${origin}/v1/topics/demo.hello/messages`],
    ["Watch with the command line", `${info.command} subscribe 'demo.**'${elsewhere}`],
    ["Publish with the command line", `${info.command} publish demo.hello '{"v":42}'${elsewhere}`],
    ["Read the last five with curl", `curl '${origin}/v1/topics/demo.counter/messages?last=5'`],
    ["Read the newest values with curl", `curl '${origin}/v1/topics/demo.**/state'`],
    ["Delete the value with curl", `curl -X DELETE ${origin}/v1/topics/demo.hello`],
    ["Watch with a bare WebSocket, in this page’s console", `new WebSocket("${socket}/v1/connect?topic=demo.**").onmessage = (e) => console.log(e.data)`],
  ];
  if (info.token) lines.push(["Any other Topic, with the Token of this process", `curl -H 'Authorization: Bearer ${info.token}' -d '{"v":42}' ${origin}/v1/topics/orders.new/messages`]);
  $("lines").replaceChildren(...lines.map(([title, line]) => {
    const text = make("pre", { textContent: line });
    const button = make("button", { type: "button", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy: ${title}`);
    button.onclick = () => copy(text, button);
    return make("li", { className: line.length > 160 ? "wide" : "" }, make("span", { textContent: title }), text, button);
  }));
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text); // not a secure context: the hand does it
    button.textContent = "Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 2_000);
}

// ---------------------------------------------------------------------------------------------
// Start, and one loop that draws; a hidden page gets no animation frame, so it draws nothing
// ---------------------------------------------------------------------------------------------

function draw() {
  const now = Date.now();
  for (const chart of Object.values(charts)) chart.draw(now);
  counter.draw();
  inspector.draw(now);
  drawLatency();
  drawChip();
  setTimeout(() => requestAnimationFrame(draw), calm.matches ? REDRAW_CALM_MS : REDRAW_MS);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readInk);
readInk();
describePayload();
await ask();
link.dial();
requestAnimationFrame(draw);
