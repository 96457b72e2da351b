// What waits for a `for await` loop: bounded, with one answer to being full.

export interface QueueOptions {
  max: number;
  /**
   * With `drop-oldest` the oldest gives way, with `latest` those of the same Topic, if there are any; either is a
   * `gap`. `end` ends the Subscription with `slow_consumer`.
   */
  onFull: "drop-oldest" | "latest" | "end";
}

const DEFAULT: QueueOptions = { max: 1_000, onFull: "drop-oldest" };

export class Queue<P extends { readonly topic: string }> implements AsyncIterable<P> {
  readonly onFull: QueueOptions["onFull"];
  readonly #max: number;
  #items: P[] = [];
  #end: { error?: unknown } | undefined;
  #wake = (): void => {};

  constructor({ max, onFull }: QueueOptions = DEFAULT) {
    this.#max = max;
    this.onFull = onFull;
  }

  get size(): number {
    return this.#items.length;
  }

  get full(): boolean {
    return this.size >= this.#max;
  }

  /** Says how many gave way. */
  push(item: P): number {
    const before = this.size;
    if (this.full && this.onFull === "latest") {
      this.#items = this.#items.filter(({ topic }) => topic !== item.topic);
    }
    if (this.full) this.#items.shift();
    this.#items.push(item);
    this.#wake();
    return before + 1 - this.size;
  }

  /** What waits can still be read; then the loop ends, or throws that error. */
  end(error?: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<P, void> {
    for (;;) {
      const item = this.#items.shift();
      if (item) yield item;
      else if (!this.#end) await new Promise<void>((resolve) => (this.#wake = resolve));
      else if (this.#end.error === undefined) return;
      else throw this.#end.error;
    }
  }
}
