// A Pattern, the live map of what it matches, and what a visitor has published.

import { useEffect, useRef, useState } from "preact/hooks";
import { TidegateError } from "tidegate";
import { arrivals, hear } from "./arrivals.ts";
import { useFrame } from "./frames.ts";
import { TOPICS_MAX, Watch, rate, type Entry } from "./watch.ts";
import { cut, json, span } from "./words.ts";

const VALUE_MAX = 240;
const WHOLE_MAX = 20_000;

export function Topics() {
  const box = useRef<HTMLInputElement>(null);
  const [watch, setWatch] = useState(() => new Watch("demo.>", hear));
  const [fault, setFault] = useState("");

  useEffect(() => void watch.synced.catch((fault) => setFault(words(fault))), []);

  /** The old one stays until the node has taken the new one. */
  const ask = async () => {
    const pattern = box.current!.value.trim();
    if (!pattern) return;
    let next: Watch | undefined;
    try {
      next = new Watch(pattern, hear);
      await next.synced;
    } catch (fault) {
      void next?.end();
      return setFault(`${words(fault)} (still watching ${watch.pattern})`);
    }
    void watch.end();
    setFault("");
    setWatch(next);
  };

  return (
    <section class="panel inspect" aria-labelledby="inspect-title">
      <div class="section-head">
        <h2 id="inspect-title">Topics</h2>
        <form class="pattern" noValidate onSubmit={(event) => (event.preventDefault(), void ask())}>
          <label for="pattern">Pattern</label>
          <input id="pattern" ref={box} defaultValue="demo.>" autocomplete="off" autocapitalize="off" spellcheck={false} aria-invalid={fault ? "true" : undefined} aria-describedby="pattern-note" />
          <button type="submit">Watch</button>
        </form>
      </div>
      <p class="result" id="pattern-note" data-kind="bad">{fault}</p>
      <Table watch={watch} key={watch.pattern} />
      <Arrival />
    </section>
  );
}

function words(fault: unknown): string {
  return fault instanceof TidegateError ? `${fault.code}: ${fault.message}` : String((fault as Error).message);
}

function Table({ watch }: { watch: Watch }) {
  useFrame();
  const now = Date.now();
  const rows = watch.rows();
  const bound = watch.size > TOPICS_MAX ? `The first ${TOPICS_MAX} of ${watch.size.toLocaleString("en")} topics.` : `${watch.size} topics${watch.stale ? ", as they were before the connection was lost" : ""}.`;
  return (
    <>
      <div class="topics-box" tabIndex={rows.length > 9 ? 0 : undefined} role={rows.length > 9 ? "group" : undefined} aria-label={rows.length > 9 ? "Topics" : undefined}>
        <table class="topics" role="table">
          <caption class="hidden">Newest value of each topic; a topic’s button opens the whole value</caption>
          <thead role="rowgroup">
            <tr role="row">
              <th scope="col" role="columnheader">Topic</th><th scope="col" role="columnheader">Newest value</th>
              <th scope="col" role="columnheader" class="number">Per s</th><th scope="col" role="columnheader" class="number">Age</th>
            </tr>
          </thead>
          <tbody id="topics" role="rowgroup">
            {rows.map((entry) => <Row key={entry.topic} entry={entry} now={now} />)}
          </tbody>
        </table>
        {rows.length === 0 ? <p class="empty">Nothing has come yet.</p> : null}
      </div>
      <p class="unit" id="topics-bound">{bound}</p>
    </>
  );
}

function Row({ entry, now }: { entry: Entry; now: number }) {
  const [open, setOpen] = useState(false);
  const { topic, data, newest, at } = entry;
  return (
    <>
      <tr role="row" class="fresh" data-topic={topic}>
        <th scope="row" role="rowheader">
          <button type="button" aria-expanded={open} title={topic} onClick={() => setOpen(!open)}>{topic}</button>
        </th>
        <td role="cell" class="value">{cut(json(data), VALUE_MAX)}</td>
        <td role="cell" class="number rate">{rate(entry, now).toFixed(1)}</td>
        <td role="cell" class="number age">{at === undefined ? "–" : span(Math.max(0, now - at))}</td>
      </tr>
      {open ? (
        <tr role="row" class="whole">
          <td role="cell" colSpan={4}>
            {newest ? <p class="about">id {newest.id} · {newest.time.toISOString()}{newest.user ? ` · by ${newest.user}` : ""}</p> : null}
            <pre tabIndex={0} aria-label={`Newest value of ${topic}`}>{cut(json(data, 2), WHOLE_MAX)}</pre>
          </td>
        </tr>
      ) : null}
    </>
  );
}

/** The newest Publication that is none of the demo's own. */
function Arrival() {
  useFrame();
  const last = arrivals.newest;
  if (!last) return <p class="arrival" id="arrival" data-waits="true">Waiting for your publication on <code>demo.hello</code></p>;
  const { publication, at, ms } = last;
  const what = publication.deleted ? "has no value any more" : cut(json(publication.data), 120);
  return (
    <p class="arrival" id="arrival" key={publication.id}>
      <b>{publication.topic}</b> <code>{what}</code>
      <span class="unit">arrived {span(Date.now() - at)} ago, {Math.max(0, ms)} ms after it was published</span>
    </p>
  );
}
