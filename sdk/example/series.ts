// Numbers of the last minute, in columns as uPlot wants them: times in seconds, then one column for each line.

export const WINDOW_MS = 60_000;
/** Someone else may publish here as well. */
const POINTS_MAX = 1_000;
/** A line is not drawn over a stretch in which nothing came. */
const SILENCE_S = 1.8;

export class Series {
  columns: (number | null)[][] = [[]];

  /** Takes a reading of `at`, in ms; one with another number of lines begins anew. */
  take(values: readonly number[], at: number): void {
    if (this.columns.length !== values.length + 1) this.columns = Array.from({ length: values.length + 1 }, () => []);
    const [times, ...lines] = this.columns as [number[], ...(number | null)[][]];
    const last = times.at(-1);
    const seconds = at / 1000;
    if (last !== undefined && seconds <= last) return;
    if (last !== undefined && seconds - last > SILENCE_S) {
      times.push((last + seconds) / 2);
      for (const line of lines) line.push(null);
    }
    times.push(seconds);
    lines.forEach((line, index) => line.push(values[index]!));
    let old = times.findIndex((time) => time >= seconds - WINDOW_MS / 1000 - 2);
    old = Math.max(old, times.length - POINTS_MAX);
    if (old > 0) for (const column of this.columns) column.splice(0, old);
  }

  /** The greatest value, but for the part of them that may stick out. */
  most(sticks = 0): number {
    const all = this.columns.slice(1).flat().filter((value) => value !== null).sort((a, b) => a - b);
    return all[Math.max(0, Math.ceil(all.length * (1 - sticks)) - 1)] ?? 0;
  }
}
