import { Command } from "commander";
import { type Branch, lineage, lineOf, Sandbox, type SnapshotInfo, Wrenn } from "wrenn";
import { draw } from "../draw.ts";
import { resolveId } from "../ids.ts";
import type { Json } from "../options.ts";
import { age, bytes, Failure, printJson, printTable } from "../output.ts";

/** `wrenn tree`. */
export const treeCommand = (): Command =>
  new Command("tree")
    .description("show which sandboxes and snapshots come from which")
    .argument("[id]", "sandbox id, its first characters, or a snapshot: its line only")
    .option("--json", "print the tree as JSON")
    .addHelpText("after", "\nExamples:\n  wrenn tree\n  wrenn tree cl-3k9")
    .action(async (text: string | undefined, { json }: Json) => {
      const client = new Wrenn();
      const [sandboxes, snapshots] = await Promise.all([Sandbox.list({ client }), client.snapshots.list()]);
      const shown = lineage(sandboxes, snapshots);
      const line = text === undefined ? shown : lineOf(shown, await nameOf(client, text, snapshots));
      if (line.length === 0 && text !== undefined)
        throw new Failure(`sandbox ${text} has ended`, "See `wrenn tree` for what there is.");
      if (json) return printJson(line.map(plain));
      const row = ({ strokes, branch }: { strokes: string; branch: Branch }) => [
        strokes + branch.name,
        ...facts(branch),
      ];
      const rows = [...draw(line)].map(row);
      printTable(
        ["NAME", "STATE", "SIZE", "AGE"],
        rows,
        "There is no sandbox and no snapshot. `wrenn create` starts one.",
      );
    });

/** The name in the tree that a person means; throws `not_found`. */
async function nameOf(client: Wrenn, text: string, snapshots: readonly SnapshotInfo[]): Promise<string> {
  if (snapshots.some(({ name }) => name === text)) return text;
  return (await Sandbox.info(await resolveId(client, text), { client })).id;
}

const mib = 1024 * 1024;

function facts(branch: Branch): string[] {
  if (branch.kind === "template") return ["template", "", ""];
  if (branch.kind === "snapshot") return ["snapshot", bytes(branch.snapshot.sizeBytes), age(branch.snapshot.createdAt)];
  const { status, diskUsedMiB, createdAt } = branch.sandbox;
  return [status, diskUsedMiB === undefined ? "-" : bytes(diskUsedMiB * mib), age(createdAt)];
}

/** A branch for programs: the facts of `info` and `snapshots ls`, and `children`. */
function plain(branch: Branch): object {
  const children = branch.children.map(plain);
  if (branch.kind === "template") return { kind: branch.kind, name: branch.name, children };
  return { kind: branch.kind, ...(branch.kind === "sandbox" ? branch.sandbox : branch.snapshot), children };
}
