import type { Heredoc, ModifiableInstruction, Instruction as Parsed } from "dockerfile-ast";
import { type Command, refused } from "./plan.ts";

type Flagged = Parsed & Pick<ModifiableInstruction, "getFlags">;

/** One instruction as the parser found it, and the ways to read what stands behind its keyword. */
export class Given {
  private constructor(
    readonly parsed: Parsed,
    readonly keyword: string,
    readonly line: number,
    readonly text: string,
  ) {}

  /** Reads its keyword, and its text in one line. */
  static of(parsed: Parsed): Given {
    const keyword = parsed.getKeyword().toUpperCase();
    const flags = "getFlags" in parsed ? (parsed as Flagged).getFlags().map(String) : [];
    const text = [keyword, ...flags, parsed.getArgumentsContent() ?? ""].join(" ").trim();
    return new Given(parsed, keyword, parsed.getRange().start.line + 1, text);
  }

  /** What stands behind the keyword and its flags. */
  get rest(): string {
    return (this.parsed.getArgumentsContent() ?? "").trim(); // the parser takes flags of these instructions apart
  }

  /** Values of a flag that may be repeated. */
  list(name: string): string[] {
    return this.#flags()
      .filter(([key]) => key === name)
      .map(([, value]) => value);
  }

  /** Flags by name. Throws for one that is not `known`. */
  flags(known: readonly string[]): Partial<Record<string, string>> {
    for (const [key] of this.#flags())
      if (!known.includes(key)) throw refused(this.line, `${this.keyword} --${key} is not supported`, "Remove it.");
    return Object.fromEntries(this.#flags());
  }

  #flags(): [string, string][] {
    const found = "getFlags" in this.parsed ? (this.parsed as Flagged).getFlags() : [];
    return found.map((flag) => [flag.getName().toLowerCase(), (flag.getValue() ?? "").replace(/^"|"$/g, "")]);
  }

  /** A JSON array of texts, or `undefined` when it is none. */
  json(): string[] | undefined {
    if (!this.rest.startsWith("[")) return undefined;
    try {
      const value: unknown = JSON.parse(this.rest);
      return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
    } catch {
      return undefined; // a shell's own `[` begins like this too
    }
  }

  /** The command in either form. */
  command(): Command {
    const argv = this.json();
    if (!this.rest || argv?.length === 0) throw refused(this.line, `${this.keyword} has no command`, "Write one.");
    return argv ? { argv } : { shell: this.rest };
  }

  /** `NAME=VALUE ...`, or the old form `NAME VALUE`; values are still as written. */
  pairs(): [string, string][] {
    const old = /^([a-zA-Z_]\w*)\s+(\S[\s\S]*)$/.exec(this.rest);
    if (old) return [[old[1]!, old[2]!]];
    const found = [...this.rest.matchAll(/([a-zA-Z_]\w*)=((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])*)(?:\s+|$)/g)];
    if (found.length === 0 || found.map(([all]) => all).join("") !== this.rest)
      throw refused(this.line, `${this.keyword} is not NAME=VALUE`, "Put values with spaces in double quotes.");
    return found.map(([, name, value]) => [name!, value!]);
  }

  /** Here-documents in order; `isScript` says that the whole command is one. */
  heredocs(): { name: string; text: string; isScript: boolean }[] {
    const { parsed } = this;
    const found = "getHeredocs" in parsed ? (parsed as Parsed & { getHeredocs(): Heredoc[] }).getHeredocs() : [];
    const [first, ...lines] = this.rest.split("\n");
    let at = 0;
    return found.map((heredoc) => {
      const name = heredoc.getName();
      const end = lines.findIndex((line, index) => index >= at && line.trim() === name);
      const text = `${lines.slice(at, end < 0 ? undefined : end).join("\n")}\n`;
      at = end + 1;
      return { name, text, isScript: /^<<-?["']?\w+["']?$/.test(first!.trim()) };
    });
  }
}
