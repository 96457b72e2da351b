// The colours of the stylesheet, for what is drawn on a canvas.

export interface Ink {
  series: string[];
  grid: string;
  soft: string;
  edge: string;
  away: string;
  wait: string;
  bad: string;
  panel: string;
  font: string;
}

/** A line is told by its stroke, not by colour alone. */
export const DASHES: readonly number[][] = [[], [7, 3], [2, 2.5], [9, 3, 2, 3]];

export let ink = read();

function read(): Ink {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    series: [0, 1, 2, 3, 4, 5].map((n) => of(`--s${n}`)),
    grid: of("--grid"), soft: of("--soft"), edge: of("--edge"), away: of("--away"), wait: of("--wait"), bad: of("--bad"), panel: of("--panel"),
    font: `11px ${of("--sans")}`,
  };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (ink = read()));
