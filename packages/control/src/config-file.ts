import { readFile } from "node:fs/promises";
import { parseEnv } from "node:util";
import { WrennError } from "@wrenn/contract";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The environment completed by the file that `--config FILE` or `WRENN_CONFIG` names, and the arguments that are left.
 * Throws `invalid_request` for a file that cannot be read.
 */
export async function environment(
  args: readonly string[],
  env: Environment,
): Promise<{ env: Environment; rest: string[] }> {
  const rest = [...args];
  const at = rest.indexOf("--config");
  const path = at < 0 ? env.WRENN_CONFIG : rest.splice(at, 2)[1];
  if (at >= 0 && !path) throw bad("--config needs a file", "Write wrenn-cp --config FILE.");
  if (!path) return { env, rest };
  const text = await readFile(path, "utf8").catch((thrown: Error) => {
    throw bad(`The configuration ${path} cannot be read: ${thrown.message}.`, "Name a file of lines NAME=VALUE.");
  });
  return { env: { ...parseEnv(text), ...env }, rest };
}

const bad = (message: string, remedy: string) => new WrennError("invalid_request", message, { remedy });
