// A page to test in: what a browser tells about it, told by the test.

/** Puts a page around the client; `leave` takes it away. */
export class FakePage {
  readonly #window = new EventTarget();
  readonly #document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  readonly #globals = globalThis as Record<string, unknown>;

  constructor() {
    this.#globals["addEventListener"] = this.#window.addEventListener.bind(this.#window);
    this.#globals["document"] = this.#document;
  }

  leave(): void {
    delete this.#globals["addEventListener"];
    delete this.#globals["document"];
  }

  tell(event: "online" | "offline" | "pagehide"): void {
    this.#window.dispatchEvent(new Event(event));
  }

  /** Comes back out of the browser's cache. */
  show(): void {
    this.#window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  }

  visible(visible: boolean): void {
    this.#document.visibilityState = visible ? "visible" : "hidden";
    this.#document.dispatchEvent(new Event("visibilitychange"));
  }

  thaw(): void {
    this.#document.dispatchEvent(new Event("resume"));
  }
}
