import { Command } from "commander";
import { type VolumeInfo, Wrenn } from "wrenn";
import type { Json } from "../options.ts";
import { age, Failure, print, printJson, printTable } from "../output.ts";

const help = `
Example:
  wrenn volume create data
  wrenn run --volume data:/data -- sh -c 'echo kept >/data/note'
  wrenn run --volume data:/data -- cat /data/note`;

/** `wrenn volume`: files that outlive sandboxes. */
export const volumeCommand = (): Command =>
  new Command("volume")
    .description("files that outlive sandboxes and that several mount at once")
    .addHelpText("after", help)
    .addCommand(listVolumes())
    .addCommand(createVolume())
    .addCommand(removeVolume());

const listVolumes = (): Command =>
  new Command("ls")
    .alias("list")
    .description("list volumes")
    .option("--json", "print a JSON array")
    .action(async ({ json }: Json) => {
      const found = await new Wrenn().volumes.list();
      if (json) return printJson(found);
      const row = ({ name, id, hostId, createdAt }: VolumeInfo) => [name, id, hostId, age(createdAt)];
      printTable(
        ["NAME", "ID", "HOST", "AGE"],
        found.map(row),
        "There is no volume. `wrenn volume create NAME` makes one.",
      );
    });

const createVolume = (): Command =>
  new Command("create")
    .description("make an empty volume")
    .argument("<name>", "letters, digits, _ and -")
    .option("--json", "print the volume as JSON")
    .action(async (name: string, { json }: Json) => {
      const made = await new Wrenn().volumes.create(name);
      if (json) return printJson(made);
      print(made.name);
    });

const removeVolume = (): Command =>
  new Command("rm")
    .description("remove volumes with every file in them; sandboxes that have them mounted lose them at once")
    .argument("<volume...>", "names or ids")
    .action(async (names: string[]) => {
      const client = new Wrenn();
      for (const name of names)
        if (!(await client.volumes.delete(name)))
          throw new Failure(`There is no volume "${name}".`, "`wrenn volume ls` lists them.");
    });
