// A line to copy, and its button.

import { useRef, useState } from "preact/hooks";

const SAID_MS = 2_000;

export function Copy({ title, line, wide }: { title: string; line: string; wide?: boolean }) {
  const text = useRef<HTMLPreElement>(null);
  const [word, setWord] = useState("Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(line);
      setWord("Copied");
    } catch {
      getSelection()?.selectAllChildren(text.current!); // not a secure context: the hand does it
      setWord("Ctrl+C");
    }
    setTimeout(() => setWord("Copy"), SAID_MS);
  };
  return (
    <div class={wide ? "copy wide" : "copy"}>
      <span class="copy-title">{title}</span>
      <button type="button" class="quiet" aria-label={`${word}: ${title}`} onClick={copy}>{word}</button>
      <pre ref={text}>{line}</pre>
    </div>
  );
}
