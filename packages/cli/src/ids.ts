import { Sandbox, type Wrenn } from "wrenn";
import { Failure, usage } from "./output.ts";

const full = /^cl-[0-9a-z]{25}$/;
const shape = /^(cl-)?[0-9a-z]{1,25}$/;

/** The sandbox a person means by an id or the beginning of one, with or without `cl-`. */
export async function resolveId(client: Wrenn, text: string): Promise<string> {
  if (full.test(text)) return text;
  if (!shape.test(text))
    throw usage(
      `"${text}" is not a sandbox id`,
      "An id is `cl-` and 25 characters, or the first few of them; see `wrenn ls`.",
    );
  const prefix = text.startsWith("cl-") ? text : `cl-${text}`;
  const found = (await Sandbox.list({ client })).map((one) => one.id).filter((id) => id.startsWith(prefix));
  if (found.length === 1) return found[0]!;
  if (found.length === 0) throw new Failure(`no sandbox begins with "${text}"`, "See `wrenn ls` for those there are.");
  const some = found.slice(0, 5).join(", ");
  throw new Failure(`"${text}" begins the ids of ${found.length} sandboxes: ${some}`, "Type more of the id.");
}
