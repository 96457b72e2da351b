// A box to publish from, and a line that does the same from a shell.

import { useRef, useState } from "preact/hooks";
import { TidegateError } from "tidegate";
import { Copy } from "./copy.tsx";
import { client } from "./gateway.ts";
import { CURL } from "./lines.tsx";

interface Said {
  kind: "" | "good" | "bad";
  text: string;
  topic?: true;
}

/** What a text is as a payload: JSON as it stands, else a JSON text. */
function payload(text: string): { data: unknown; kind: string } {
  try {
    return { data: JSON.parse(text), kind: "JSON" };
  } catch {
    return { data: text, kind: "no JSON: goes as text" };
  }
}

export function Publish() {
  const topic = useRef<HTMLInputElement>(null);
  const box = useRef<HTMLTextAreaElement>(null);
  const [kind, setKind] = useState("JSON");
  const [said, say] = useState<Said>({ kind: "", text: "" });

  const act = async (how: "publish" | "delete") => {
    const name = topic.current!.value.trim();
    if (!name) return say({ kind: "bad", text: "A topic is needed, such as demo.hello.", topic: true });
    say({ kind: "", text: "Sending …" });
    const began = performance.now();
    try {
      const one = client.topic(name);
      const { id, cursor } = how === "publish" ? await one.publish(payload(box.current!.value).data) : await one.delete();
      const took = performance.now() - began;
      const done = how === "publish" ? `Published to ${name}` : `Deleted the value of ${name}`;
      say({ kind: "good", text: `${done} in ${took.toFixed(took < 10 ? 1 : 0)} ms, ${cursor ? "stored" : "best effort"}, id ${id}` });
    } catch (fault) {
      const code = fault instanceof TidegateError ? fault.code : "fault";
      say({ kind: "bad", text: `${code}: ${(fault as Error).message}`, ...(code === "invalid_topic" ? { topic: true } : {}) });
    }
  };

  return (
    <section class="panel publish" aria-labelledby="publish-title">
      <h2 id="publish-title">Publish</h2>
      <form id="publish" noValidate onSubmit={(event) => (event.preventDefault(), void act("publish"))}>
        <label for="publish-topic">Topic</label>
        <input id="publish-topic" ref={topic} defaultValue="demo.hello" autocomplete="off" autocapitalize="off" spellcheck={false} aria-invalid={said.topic ? "true" : undefined} aria-describedby="publish-result" />
        <label for="publish-payload">Payload <span class="unit" id="payload-kind">{kind}</span></label>
        <textarea id="publish-payload" ref={box} rows={2} autocomplete="off" autocapitalize="off" spellcheck={false} aria-describedby="payload-kind"
          defaultValue={'{"v": 42}'}
          onInput={() => setKind(payload(box.current!.value).kind)}
          onKeyDown={(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && void act("publish")} />
        <div class="buttons">
          <button type="submit" class="primary">Publish</button>
          <button type="button" id="publish-delete" title="Publishes a tombstone: this topic has no value any more" onClick={() => void act("delete")}>Delete value</button>
        </div>
      </form>
      <p class="result" id="publish-result" data-kind={said.kind}>{said.text}</p>
      <Copy title="Or from a shell" line={CURL} />
    </section>
  );
}
