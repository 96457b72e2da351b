// One uPlot: a minute of lines, or columns of a histogram, in the colours of the page.

import uPlot from "uplot";
import { counter } from "./dashboard.ts";
import { DASHES, ink } from "./ink.ts";
import { WINDOW_MS } from "./series.ts";

const AXIS_PX = 18;
const MARKS_S = [60, 45, 30, 15, 0];
/** A shorter absence has no room for the word. */
const WORD_PX = 34;

/** What all plots have in common: no legend, no cursor, words of the scale inside. */
function frame(format: (value: number) => string, axis: uPlot.Axis, more: Partial<uPlot.Options>): uPlot.Options {
  const top = ({ scales }: uPlot) => scales["y"]?.max ?? 1;
  return {
    width: 10, height: 10, padding: [6, 0, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    axes: [
      { stroke: () => ink.soft, font: ink.font, size: AXIS_PX, gap: 3, grid: { show: false }, ticks: { show: false }, ...axis },
      { size: 0, values: () => [], splits: (u) => [0, top(u) / 2, top(u)], grid: { stroke: () => ink.grid, width: 1 }, ticks: { show: false } },
    ],
    series: [],
    ...more,
    hooks: { ...more.hooks, draw: [...(more.hooks?.draw ?? []), (u) => [0.5, 1].forEach((part) => word(u, format(top(u) * part), "left", u.bbox.left, u.valToPos(top(u) * part, "y", true) + 13 * uPlot.pxRatio))] },
  };
}

/** A word on the plot, with a rim in the panel's colour to be read over a line. */
function word({ ctx }: uPlot, text: string, textAlign: CanvasTextAlign, x: number, y: number, fillStyle = ink.soft): void {
  const dot = uPlot.pxRatio;
  ctx.save();
  Object.assign(ctx, { font: ink.font.replace("11px", `${11 * dot}px`), textAlign, textBaseline: "alphabetic", fillStyle, strokeStyle: ink.panel, lineWidth: 4 * dot, lineJoin: "round" });
  ctx.setLineDash([]);
  ctx.strokeText(text, x, y);
  ctx.fillText(text, x, y);
  ctx.restore();
}

/** The stretches without a connection, which a replay has filled since. */
function absences(u: uPlot): void {
  const { ctx, bbox } = u;
  const dot = uPlot.pxRatio;
  const left = bbox.left;
  const x = (at: number) => Math.max(left, Math.min(left + bbox.width, u.valToPos(at / 1000, "x", true)));
  for (const { from, to } of counter.absences) {
    const [begin, end] = [x(from), x(to ?? Date.now())];
    if (end <= left) continue;
    ctx.save();
    ctx.fillStyle = ink.away;
    ctx.fillRect(begin, bbox.top, Math.max(dot, end - begin), bbox.height);
    ctx.restore();
    if (end - begin > WORD_PX * dot) word(u, "away", "center", (begin + end) / 2, bbox.top + 12 * dot, ink.wait);
  }
}

/** A dot at each line's newest value. */
function newest(u: uPlot, bold: number): void {
  const { ctx } = u;
  const dot = uPlot.pxRatio;
  const at = u.data[0].at(-1);
  if (at === undefined) return;
  for (let line = 1; line <= bold && line < u.data.length; line += 1) {
    const value = u.data[line]!.at(-1);
    if (value === null || value === undefined) continue;
    ctx.beginPath();
    ctx.fillStyle = ink.series[(line - 1) % ink.series.length]!;
    ctx.arc(Math.min(u.valToPos(at, "x", true), u.bbox.left + u.bbox.width - 3 * dot), u.valToPos(value, "y", true), 2.75 * dot, 0, 7);
    ctx.fill();
  }
}

/** How long ago; the outer words end where the plot does. */
function ages(u: uPlot): void {
  const { bbox } = u;
  const y = bbox.top + bbox.height + 14 * uPlot.pxRatio;
  MARKS_S.forEach((ago, place) => {
    const align = place === 0 ? "left" : ago === 0 ? "right" : "center";
    word(u, ago ? `${ago} s` : "now", align, bbox.left + (bbox.width * place) / (MARKS_S.length - 1), y);
  });
}

/** `count` lines, the first `bold` of them to be told apart. */
export function lines(count: number, bold: number, fill: boolean, format: (value: number) => string): uPlot.Options {
  const series: uPlot.Series[] = [{}];
  for (let line = 0; line < count; line += 1) {
    const faint = line >= bold;
    series.push({
      stroke: () => (faint ? `${ink.edge}66` : ink.series[line % ink.series.length]!),
      ...(fill && line === 0 ? { fill: () => `${ink.series[0]}22` } : {}),
      width: faint ? 1 : 1.75,
      dash: faint ? [] : [...DASHES[line % DASHES.length]!],
      points: { show: false },
    });
  }
  return frame(format, { values: () => [] }, {
    series,
    scales: { x: { time: false }, y: { range: (_u, _min, max) => [0, max] } },
    hooks: { drawClear: [absences], draw: [(u) => newest(u, bold), ages] },
  });
}

/** A column for each label. */
export function columns(labels: readonly string[], format: (value: number) => string): uPlot.Options {
  const axis: uPlot.Axis = { splits: () => labels.map((_, n) => n), values: () => [...labels] };
  const bars = uPlot.paths.bars!({ size: [0.78, 64], radius: 0.15 });
  return frame(format, axis, {
    series: [{}, { stroke: () => ink.series[0]!, fill: () => `${ink.series[0]}55`, width: 1.25, paths: bars, points: { show: false } }],
    scales: { x: { time: false, range: () => [-0.6, labels.length - 0.4] }, y: { range: (_u, _min, max) => [0, max] } },
  });
}

/** Draws a minute that ends now. */
export function drawLines(u: uPlot, data: uPlot.AlignedData, top: number, now: number): void {
  u.batch(() => {
    u.setData(data, false);
    u.setScale("x", { min: (now - WINDOW_MS) / 1000, max: now / 1000 });
    u.setScale("y", { min: 0, max: top });
  });
}

export function drawColumns(u: uPlot, data: uPlot.AlignedData, top: number): void {
  u.batch(() => {
    u.setData(data, false);
    u.setScale("x", { min: 0, max: 1 });
    u.setScale("y", { min: 0, max: top });
  });
}
