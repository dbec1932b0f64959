import { Command } from "commander";
import { type Comparison, compare, type Difference, type Moment, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import type { Json } from "../options.ts";
import { bytes, paint, print, printable, printJson } from "../output.ts";

/** `wrenn diff`. */
export const diffCommand = (): Command =>
  new Command("diff")
    .description("compare the files of two points in time: snapshots, or running sandboxes as they are now")
    .argument("<before>", "name of a snapshot, or a sandbox's id or its first characters")
    .argument("<after>", "likewise")
    .option("--json", "print {added, changed, removed} as JSON")
    .addHelpText("after", "\nExamples:\n  wrenn diff before cl-3k9\n  wrenn diff before after --json")
    .action(async (before: string, after: string, { json }: Json) => {
      const client = new Wrenn();
      const names = new Set((await client.snapshots.list()).map(({ name }) => name));
      const moment = async (text: string): Promise<Moment> =>
        names.has(text) ? { snapshot: text } : { sandbox: await resolveId(client, text) };
      const found = await compare(client, await moment(before), await moment(after));
      if (json) return printJson(found);
      for (const [name, sign, style] of kinds) for (const one of found[name]) print(paint(style, line(sign, one)));
      const total = kinds.reduce((sum, [name]) => sum + found[name].length, 0);
      if (total === 0) print("no file differs");
    });

const kinds: readonly [keyof Comparison, sign: string, style: "green" | "yellow" | "red"][] = [
  ["added", "+", "green"],
  ["changed", "~", "yellow"],
  ["removed", "-", "red"],
];

function line(sign: string, { path, kind, size, sizeBefore }: Difference): string {
  const change =
    sizeBefore === undefined || sizeBefore === size ? bytes(size) : `${bytes(sizeBefore)} → ${bytes(size)}`;
  return `${sign} ${printable(path)}${kind === "directory" ? "/" : ""}${kind === "file" ? `  ${change}` : ""}`;
}
