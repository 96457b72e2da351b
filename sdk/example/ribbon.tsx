// The newest numbers of the counter, each at its time: solid came live, open was replayed, crossed out is lost.

import { useEffect, useRef } from "preact/hooks";
import { counter } from "./dashboard.ts";
import { onFrame } from "./frames.ts";
import { ink } from "./ink.ts";

/** Between two numbers, and the width of one. */
const STEP_PX = 5;
const PERIOD_MS = 100;

export function Ribbon() {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => onFrame(() => draw(canvas.current!, Date.now())), []);
  return <canvas id="ribbon" ref={canvas} role="img" aria-label="The newest numbers of demo.counter: those that came live, were replayed, or are lost. The figures stand below." />;
}

function draw(canvas: HTMLCanvasElement, now: number): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  const dot = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * dot), Math.round(height * dot)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d")!;
  context.setTransform(dot, 0, 0, dot, 0, 0);
  context.clearRect(0, 0, width, height);
  const x = (at: number) => Math.round(width - 6 - ((now - at) / PERIOD_MS) * STEP_PX);
  shade(context, x, now, height);
  const middle = height / 2;
  for (const { n, at, how } of counter.strokes) {
    const left = x(at);
    if (left < -STEP_PX) continue;
    const tall = n % 10 === 0 ? height - 6 : height - 22;
    const top = middle - tall / 2;
    if (how === "live") {
      context.fillStyle = ink.series[0]!;
      context.fillRect(left, top, 3, tall);
    } else if (how === "replayed") {
      context.strokeStyle = ink.wait;
      context.lineWidth = 1.25;
      context.strokeRect(left + 0.1, top + 0.6, 2.8, tall - 1.2);
    } else {
      context.strokeStyle = ink.bad;
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(left - 0.5, middle - 4);
      context.lineTo(left + 3.5, middle + 4);
      context.moveTo(left + 3.5, middle - 4);
      context.lineTo(left - 0.5, middle + 4);
      context.stroke();
    }
  }
}

/** The stretches without a connection. */
function shade(context: CanvasRenderingContext2D, x: (at: number) => number, now: number, height: number): void {
  for (const { from, to } of counter.absences) {
    const [left, right] = [x(from), x(to ?? now)];
    if (right < 0) continue;
    context.fillStyle = ink.away;
    context.fillRect(left, 0, right - left + 3, height);
    if (to === undefined && right - left > 30) {
      Object.assign(context, { font: ink.font, fillStyle: ink.wait, textAlign: "center", textBaseline: "middle" });
      context.fillText("away", (left + right) / 2, height / 2);
    }
  }
}
