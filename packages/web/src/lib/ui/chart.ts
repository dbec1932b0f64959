import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

/** One line of a chart. */
export type Series = { label: string; tone: string; fill?: boolean };

/** What a chart shows: seconds since 1970, and for each line a value at each of them. */
export type ChartData = { times: number[]; lines: (number | null)[][] };

/** How a chart looks. */
export type ChartOptions = {
  series: readonly Series[];
  format: (value: number) => string;
  max?: number | undefined;
  /** Distances between the lines of the scale that are whole numbers to a reader. */
  steps?: number[] | undefined;
};

const timeOf = (seconds: number): string =>
  new Date(seconds * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });

/** The colour that a custom property has now. */
const colorOf = (element: Element, name: string): string => {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

/** A chart in `parent` that zooms by dragging; a double click shows all again. */
export function drawChart(parent: HTMLElement, options: ChartOptions, data: ChartData) {
  const ink = colorOf(parent, "ink-soft");
  const line = colorOf(parent, "line");
  const font = '11px "IBM Plex Mono", monospace';
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const height = 180;
  const plot = new uPlot(
    {
      width: Math.max(200, parent.clientWidth),
      height,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { points: { size: 6 }, drag: { x: true, y: false } },
      scales: { y: { range: (_self, _low, high) => [0, options.max ?? Math.max(high * 1.1, 1e-9)] } },
      axes: [
        { ...axis, space: 72, size: 26, values: (_self, splits) => splits.map(timeOf) },
        {
          ...axis,
          ...(options.steps && { incrs: options.steps }),
          size: 72,
          values: (_self, splits) => splits.map((value) => options.format(value)),
        },
      ],
      series: [
        { value: (_self, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString()) },
        ...options.series.map(({ label, tone, fill }) => {
          const stroke = colorOf(parent, tone);
          return {
            label,
            stroke,
            width: 1.5,
            ...(fill && { fill: stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)") }),
            points: { show: false },
            value: (_self: uPlot, value: number | null) => (value == null ? "–" : options.format(value)),
          };
        }),
      ],
    },
    [data.times, ...data.lines] as uPlot.AlignedData,
    parent,
  );
  const seen = new ResizeObserver(() => plot.setSize({ width: Math.max(200, parent.clientWidth), height }));
  seen.observe(parent);
  return {
    set: (next: ChartData) => plot.setData([next.times, ...next.lines] as uPlot.AlignedData),
    destroy: () => {
      seen.disconnect();
      plot.destroy();
    },
  };
}
