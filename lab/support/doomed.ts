/**
 * An agent that is killed for real, in a process of its own: what dies with a process are its descriptors, and those hold
 * disks open. Takes a host's folder, the name of its networks, a recipe, and before which of the recipe's effects the
 * kernel kills it, and says that effect's name; ends with 0 when the recipe has no such effect.
 */
import { writeSync } from "node:fs";
import { RealHost } from "./real-host.ts";
import { driversFor, type RecipeName, recipes } from "./recipes.ts";

const [dir, networks, name, step] = process.argv.slice(2);
const host = await RealHost.in(dir!, () => driversFor(networks!));
const { prepare, run } = recipes[name as RecipeName];
const id = await prepare(host);
let left = Number(step);
host.before = (effect) => {
  if (left-- > 0) return;
  writeSync(1, effect);
  process.kill(process.pid, "SIGKILL");
};
await run(host, id);
process.exit(0);
