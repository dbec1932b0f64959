import { Sandbox, type SandboxInfo, type Wrenn } from "wrenn";
import { Failure, usage } from "./output.ts";

const full = /^cl-[0-9a-z]{25}$/;
const beginning = /^(cl-)?[0-9a-z]{1,25}$/;
const name = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;

/**
 * The sandbox a person means by an id, a name, or the beginning of an id, with or without `cl-`. Of those that ended,
 * only when none that lives is meant.
 */
export async function resolveId(client: Wrenn, text: string): Promise<string> {
  if (full.test(text)) return text;
  if (!name.test(text))
    throw usage(
      `"${text}" is no sandbox`,
      "Give its name, or its id: `cl-` and 25 characters, or the first few of them; see `wrenn ls`.",
    );
  const meant = meantBy(text, await Sandbox.list({ client }));
  const found = meant.length > 0 ? meant : meantBy(text, await ended(client));
  if (found.length === 1) return found[0]!;
  if (found.length === 0)
    throw new Failure(`no sandbox is called, or begins with, "${text}"`, "See `wrenn ls` for those there are.");
  const some = found.slice(0, 5).join(", ");
  throw new Failure(`"${text}" begins the ids of ${found.length} sandboxes: ${some}`, "Type more of the id.");
}

/** The newest page of those that ended: an older one is found by its whole id. */
const ended = async (client: Wrenn): Promise<SandboxInfo[]> =>
  (await client.list({ states: ["stopped", "error"] })).sandboxes;

function meantBy(text: string, all: readonly SandboxInfo[]): string[] {
  const named = all.filter((one) => one.name === text).map((one) => one.id);
  if (named.length > 0 || !beginning.test(text)) return named.slice(0, 1); // the newest of those that ended
  const prefix = text.startsWith("cl-") ? text : `cl-${text}`;
  return all.map((one) => one.id).filter((id) => id.startsWith(prefix));
}
