// A chart: its picture, and beside it the newest values, which are its key, too.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { Gauge } from "./dashboard.ts";
import { latency } from "./dashboard.ts";
import { onFrame, useFrame } from "./frames.ts";
import { DASHES } from "./ink.ts";
import { ENDS } from "./latency.ts";
import type { Row } from "./meters.ts";
import { columns, drawColumns, drawLines, lines } from "./plot.ts";
import { ceiling, count, ms } from "./words.ts";

/** What a chart draws: options that begin a picture anew when their `key` changes, and each frame. */
interface Picture {
  key(): string;
  options(): uPlot.Options;
  draw(u: uPlot, now: number): void;
}

function usePicture(picture: Picture) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const at = box.current!;
    let plot: uPlot | undefined;
    let key = "";
    const fit = () => plot?.setSize({ width: at.clientWidth, height: at.clientHeight });
    const resize = new ResizeObserver(fit);
    resize.observe(at);
    const stop = onFrame(() => {
      if (!plot || key !== picture.key()) {
        plot?.destroy();
        key = picture.key();
        plot = new uPlot(picture.options(), undefined, at);
        plot.ctx.canvas.setAttribute("aria-hidden", "true"); // its box has the words
        fit();
      }
      picture.draw(plot, Date.now());
    });
    return () => {
      stop();
      resize.disconnect();
      plot?.destroy();
    };
  }, []);
  return box;
}

/** A piece of the line that a row speaks of. */
function Key({ line }: { line: number }) {
  return (
    <svg class="key" viewBox="0 0 20 8" aria-hidden="true">
      <path d="M0 4h20" class={`stroke-${line % 6}`} stroke-dasharray={DASHES[line % DASHES.length]!.join(" ") || "none"} />
    </svg>
  );
}

interface FigureProps {
  id: string;
  title: string;
  unit: string;
  about: string;
  picture: Picture;
  rows(): readonly Row[];
}

function Figure({ id, title, unit, about, picture, rows }: FigureProps) {
  useFrame();
  const box = usePicture(picture);
  const now = rows();
  return (
    <figure class="panel chart" id={id}>
      <figcaption><h3>{title}</h3> <span class="unit">{unit}</span></figcaption>
      <div class="plot" ref={box} role="img" aria-label={`${about}. The newest values are in the table beside.`} />
      <Newest title={title} rows={now} />
    </figure>
  );
}

/** Where there are more rows than the box holds, it can be scrolled by keys. */
function Newest({ title, rows }: { title: string; rows: readonly Row[] }) {
  const scrolls = rows.length > 7 ? { tabIndex: 0, role: "group" as const, "aria-label": `${title}, newest values` } : {};
  return (
    <div class="newest-box" {...scrolls}>
      <table class="newest">
        <caption class="hidden">{title}, newest values</caption>
        <thead class="hidden"><tr><th scope="col">Figure</th><th scope="col">Value</th></tr></thead>
        <tbody>
          {rows.map(({ label, text, line }) => (
            <tr key={label}><th scope="row">{line === undefined ? null : <Key line={line} />}{label}</th><td>{text}</td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Chart({ gauge }: { gauge: Gauge }) {
  const { meter, series } = gauge;
  const picture: Picture = {
    key: () => `${series.columns.length}`,
    options: () => lines(series.columns.length - 1, gauge.reading?.bold ?? Infinity, meter.fill === true, meter.format),
    draw: (u, now) => drawLines(u, series.columns as uPlot.AlignedData, gauge.reading?.top ?? meter.ceil(series.most(meter.sticks)), now),
  };
  return <Figure id={meter.title.toLowerCase()} title={meter.title} unit={meter.unit} about={`${meter.about}, last 60 seconds`} picture={picture} rows={() => gauge.reading?.rows ?? []} />;
}

/** How long deliveries took, in columns. */
export function Histogram() {
  const labels = [...ENDS.map((end) => (end === 1 ? "<1" : `${end / 2}`)), `${ENDS.at(-1)}+`];
  const picture: Picture = {
    key: () => "",
    options: () => columns(labels, count),
    draw: (u) => {
      const heights = latency.columns();
      drawColumns(u, [heights.map((_, n) => n), heights] as uPlot.AlignedData, ceiling(Math.max(10, ...heights)));
    },
  };
  const rows = () => {
    if (latency.size === 0) return [];
    const [half, most, all] = latency.at(0.5, 0.95, 1);
    return [{ label: "median", text: ms(half!) }, { label: "95 %", text: ms(most!) }, { label: "longest", text: ms(all!) }, { label: "of", text: count(latency.size) }];
  };
  return <Figure id="latency" title="Delivery latency" unit="ms, publish to page" about="How many of the newest deliveries took how many milliseconds" picture={picture} rows={rows} />;
}
