// From a Publication's time to its arrival in this page. Both clocks are one, where the node is on this machine.

const NEWEST = 500;
/** Upper ends of the histogram's columns, in ms; the last column has none. */
export const ENDS = [1, 2, 4, 8, 16, 32, 64] as const;

export class Latency {
  #all: number[] = [];

  take(time: Date, now: number): void {
    const value = now - time.getTime();
    if (!Number.isFinite(value)) return;
    this.#all.push(Math.max(0, value)); // two clocks may differ by a rounding
    if (this.#all.length > NEWEST) this.#all.shift();
  }

  get size(): number {
    return this.#all.length;
  }

  /** How many fell into each column. */
  columns(): number[] {
    const columns = new Array<number>(ENDS.length + 1).fill(0);
    for (const value of this.#all) {
      const place = ENDS.findIndex((end) => value < end);
      columns[place < 0 ? ENDS.length : place]! += 1;
    }
    return columns;
  }

  /** The values below which these parts of all lie. */
  at(...parts: number[]): number[] {
    const sorted = [...this.#all].sort((a, b) => a - b);
    return parts.map((part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0);
  }
}
