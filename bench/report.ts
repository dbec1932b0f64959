import { cpus, loadavg } from "node:os";
import type { Outcome } from "./ledger.ts";
import { figure } from "./measure.ts";

/** When, where and on what state of the machine it was measured. */
export type Setting = { at: string; machine: string; load: string; commit: string; isBusy: boolean };

/** Whether others use the machine so much that absolute figures say more of them than of this program. */
export const isBusy = (): boolean => loadavg()[0]! > cpus().length / 2;

/** The one-minute, five-minute and quarter-hour load. */
export const load = (): string =>
  loadavg()
    .map((value) => value.toFixed(2))
    .join(" ");

const verdict = ({ ok }: Outcome): string => (ok === null ? "–" : ok ? "kept" : "MISSED");

const cells = (outcome: Outcome): string[] => [
  outcome.id,
  verdict(outcome),
  `${figure(outcome.value)} ${outcome.unit}`,
  outcome.target ?? "–",
  outcome.baseline === null ? "–" : figure(outcome.baseline),
  outcome.ratio === null ? "–" : `${figure(outcome.ratio)} ×`,
  outcome.reference === null ? "–" : `${figure(outcome.reference.ratio)} ×`,
  figure(outcome.p95),
  figure(outcome.min),
  `${outcome.runs}`,
];

const titles = ["promise", "verdict", "median", "target", "baseline", "ratio", "to bare", "p95", "min", "n"];

/** The outcomes as a table for a terminal. */
export function plainTable(outcomes: readonly Outcome[]): string {
  const rows = [titles, ...outcomes.map(cells)];
  const widths = titles.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The outcomes as a Markdown page. */
export function markdown(outcomes: readonly Outcome[], setting: Setting): string {
  const kept = outcomes.filter(({ ok }) => ok === true).length;
  const promised = outcomes.filter(({ ok }) => ok !== null).length;
  const row = (columns: readonly string[]) => `| ${columns.join(" | ")} |`;
  return `# Benchmarks

${kept} of ${promised} promises kept. Measured ${setting.at} on ${setting.machine}, commit ${setting.commit}, load average at the start ${setting.load}.${setting.isBusy ? " **The machine was busy with other work: absolute figures are worse than it can do, and only ratios count.**" : ""}

![How much of its target each promise uses](latest.svg)

${row(titles)}
${row(titles.map(() => "---"))}
${outcomes.map((outcome) => row(cells(outcome))).join("\n")}

- **median, p95, min, n**: of the runs after the warm-up; p95 is the figure that 95 % of the runs reach, so always the bad tail.
- **baseline, ratio**: the raw way to the same effect, measured in the same run, its rounds mixed with ours; for the guest agent, the best of the agents it is compared with, measured earlier on the same kind of machine.
- **to bare**: the same work by a bare server in the same run, without any of the agent's duties. A slow machine moves both.

${outcomes.map(({ id, text, against, note }) => `- \`${id}\`: ${text}${against ? `, against ${against}` : ""}.${note ? ` ${note}` : ""}`).join("\n")}
`;
}
