import { expect, test } from "bun:test";
import { judge } from "../ledger.ts";
import { plot } from "../plot.ts";
import { markdown, plainTable } from "../report.ts";
import { suites } from "../suites/index.ts";

const outcomes = [
  judge({ id: "fast", text: 'a <b> & "c"', unit: "ms", better: "lower", target: { absolute: 10 } }, { values: [5, 5] }),
  judge(
    { id: "slow", text: "slow", unit: "ms", better: "lower", target: { times: 1.2 } },
    { values: [9], baseline: [1] },
  ),
  judge({ id: "noted", text: "noted", unit: "MiB", better: "lower" }, { values: [1] }),
];
const setting = { at: "2030-01-01 00:00", machine: "a machine", load: "0 0 0", commit: "abc", isBusy: false };

test("the plot has one bar a promise, none for what is only recorded, and is whole XML", () => {
  const svg = plot(outcomes);
  expect(svg.match(/class="kept"/g)).toHaveLength(1);
  expect(svg.match(/class="missed"/g)).toHaveLength(1);
  expect(svg).toContain("a &lt;b&gt; &amp; &quot;c&quot;");
  for (const tag of ["svg", "g", "text", "title", "style"])
    expect(svg.match(new RegExp(`<${tag}[ >]`, "g"))?.length).toBe(svg.match(new RegExp(`</${tag}>`, "g"))?.length);
});

test("tables name every outcome and say which promise is missed", () => {
  for (const page of [plainTable(outcomes), markdown(outcomes, setting)]) {
    for (const { id } of outcomes) expect(page).toContain(id);
    expect(page.match(/MISSED/g)).toHaveLength(1);
  }
  expect(markdown(outcomes, setting)).toContain("1 of 2 promises kept");
});

test("a page of a busy machine says so", () => {
  expect(markdown(outcomes, setting)).not.toContain("busy");
  expect(markdown(outcomes, { ...setting, isBusy: true })).toContain("busy");
});

test("no two promises have the same name", () => {
  const ids = suites.flatMap(({ pledges }) => pledges.map(({ id }) => id));
  expect(new Set(ids).size).toBe(ids.length);
});
