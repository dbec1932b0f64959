import type { Outcome } from "./ledger.ts";
import { figure } from "./measure.ts";

const layout = { width: 1000, label: 250, row: 26, bar: 14, top: 74, right: 310 } as const;
const plotWidth = layout.width - layout.label - layout.right;

/** Bars end here: one that uses more of its target than this is cut off and says so. */
const longest = 2;

/** Follows the reader's colour scheme, also where the picture stands in a page as an image. */
const style = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .quiet { fill: #59636e } .title { font-size: 16px; font-weight: 600 } .figure { font-variant-numeric: tabular-nums }
  .kept { fill: #1a7f5a } .missed { fill: #c4432b } .track { fill: #eaeef2 }
  .limit { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3 } .page { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 } .kept { fill: #3fb68b } .missed { fill: #f0745c }
    .track { fill: #21262d } .limit { stroke: #e6edf3 } .page { fill: #0d1117 }
  }`;

/**
 * A bar a promise: the share of its target that is used, so that shorter is better for all and a bar beyond the line is a
 * promise missed. Outcomes without a target have no bar.
 */
export function plot(outcomes: readonly Outcome[]): string {
  const promised = outcomes.filter(({ used }) => used !== null);
  const height = layout.top + promised.length * layout.row + 16;
  const limit = x(1);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${layout.width} ${height}" role="img" aria-label="Promises against their targets">
<style>${style}
</style>
<rect class="page" width="${layout.width}" height="${height}" rx="8"/>
<text class="title" x="16" y="28">How much of its target each promise uses</text>
<text class="quiet" x="16" y="47">Shorter is better. A bar beyond the dashed line misses its target.</text>
<text class="quiet" x="${limit}" y="${layout.top - 8}" text-anchor="middle">target</text>
${promised.map(bar).join("\n")}
<line class="limit" x1="${limit}" x2="${limit}" y1="${layout.top - 3}" y2="${height - 12}"/>
</svg>
`;
}

const x = (share: number): number => round(layout.label + (Math.min(share, longest) / longest) * plotWidth);

const round = (value: number): number => Math.round(value * 10) / 10;

function bar(outcome: Outcome, index: number): string {
  const share = outcome.used!;
  const y = layout.top + index * layout.row;
  const inner = y + (layout.row - layout.bar) / 2;
  const base = y + layout.row / 2 + 4;
  const end = x(share);
  const ratio = outcome.ratio === null || !outcome.target?.includes("baseline") ? "" : `, ${figure(outcome.ratio)} ×`;
  const figures = `${figure(outcome.value)} ${outcome.unit}${ratio}  (${outcome.target})`;
  return [
    `<g><title>${escaped(`${outcome.text}: ${figures}, ${figure(share)} of the target`)}</title>`,
    `<text x="${layout.label - 10}" y="${base}" text-anchor="end">${escaped(outcome.id)}</text>`,
    `<rect class="track" x="${layout.label}" y="${inner}" width="${plotWidth}" height="${layout.bar}" rx="2"/>`,
    `<rect class="${outcome.ok ? "kept" : "missed"}" x="${layout.label}" y="${inner}" width="${round(end - layout.label)}" height="${layout.bar}" rx="2"/>`,
    `<text class="figure" x="${layout.label + plotWidth + 10}" y="${base}">${escaped(`${share > longest ? `${figure(share)} × target: ` : ""}${figures}`)}</text></g>`,
  ].join("");
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
