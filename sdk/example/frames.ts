// When to draw: at most ten times a second, once a second for who prefers reduced motion, and never
// while the page is hidden or somebody has paused it.

import { useEffect, useState } from "preact/hooks";

const EVERY_MS = 100;
const CALM_MS = 1_000;

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const drawers = new Set<() => void>();
let paused = false;

/** A hidden page gets no animation frame, so the loop stands still there. */
function loop(): void {
  if (!paused) for (const draw of drawers) draw();
  setTimeout(() => requestAnimationFrame(loop), calm.matches ? CALM_MS : EVERY_MS);
}
requestAnimationFrame(loop);

export function pause(on: boolean): void {
  paused = on;
}

export function onFrame(draw: () => void): () => void {
  drawers.add(draw);
  return () => drawers.delete(draw);
}

/** Draws this component at each frame. */
export function useFrame(): void {
  const [, set] = useState(0);
  useEffect(() => onFrame(() => set((n) => n + 1)), []);
}
