// Numbers to words. What comes in a Publication is checked here before it becomes a number.

export const finite = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) ? Math.max(0, value) : undefined;

export const count = (value: number): string => value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
export const percent = (value: number): string => `${value.toFixed(value < 99.95 ? 1 : 0)} %`;
export const perSecond = (value: number): string => `${count(value)}/s`;
export const ms = (value: number): string => (value < 1 ? "< 1 ms" : `${count(value)} ms`);

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function span(millis: number): string {
  if (millis < 10_000) return `${(millis / 1000).toFixed(1)} s`;
  if (millis < 120_000) return `${Math.round(millis / 1000)} s`;
  return millis < 7_200_000 ? `${Math.round(millis / 60_000)} min` : `${Math.round(millis / 3_600_000)} h`;
}

/** The next round number: a small one times a power of ten, counted in KiB, MiB, … for base 1,024. */
export function ceiling(value: number, base: 10 | 1024 = 10): number {
  let power = 1;
  if (base === 1024) while (power * 1024 <= value) power *= 1024;
  for (;;) {
    for (const step of [1, 2, 3, 4, 5, 6, 8]) if (value <= step * power) return step * power;
    power *= 10;
  }
}

/** A payload as JSON; of bytes, how many. */
export const json = (data: unknown, indent = 0): string =>
  data instanceof Uint8Array ? `${data.length} bytes` : (JSON.stringify(data, null, indent) ?? "");

/** A text as long as a page should show it. */
export const cut = (text: string, most: number): string =>
  text.length > most ? `${text.slice(0, most)} … (${text.length.toLocaleString("en")} characters)` : text;
