// What a browser tells about the page that all of this runs in. In a worker, or without a browser, it is less.
/** Returns the way to stop listening. */
export function watchPage(page) {
    const stop = new AbortController();
    const listen = (target, event, heard) => target?.addEventListener?.(event, heard, { signal: stop.signal });
    const { document } = globalThis;
    listen(globalThis, "online", () => page.online());
    listen(globalThis, "offline", () => page.offline());
    listen(globalThis, "pagehide", () => page.left());
    listen(globalThis, "pageshow", (event) => event.persisted && page.awake());
    listen(document, "resume", () => page.awake());
    listen(document, "visibilitychange", () => document?.visibilityState === "hidden" ? page.hidden() : page.awake());
    return () => stop.abort();
}
