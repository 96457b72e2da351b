// What a browser tells about the page that all of this runs in. In a worker, or without a browser, it is less.

export interface PageListener {
  /** There is a network again; or perhaps: browsers guess. */
  online(): void;
  offline(): void;
  hidden(): void;
  /** The page is left. It may be kept, frozen, and come back. */
  left(): void;
  /** It is visible again, back as it was, or thawed. */
  awake(): void;
}

/** Returns the way to stop listening. */
export function watchPage(page: PageListener): () => void {
  const stop = new AbortController();
  const listen = (target: EventTarget | undefined, event: string, heard: (event: Event) => void): void =>
    target?.addEventListener?.(event, heard, { signal: stop.signal });

  const { document } = globalThis as { document?: Document };
  listen(globalThis, "online", () => page.online());
  listen(globalThis, "offline", () => page.offline());
  listen(globalThis, "pagehide", () => page.left());
  listen(globalThis, "pageshow", (event) => (event as PageTransitionEvent).persisted && page.awake());
  listen(document, "resume", () => page.awake());
  listen(document, "visibilitychange", () =>
    document?.visibilityState === "hidden" ? page.hidden() : page.awake(),
  );
  return () => stop.abort();
}
