/** What the command line says. */
export type Flags = {
  port?: number;
  host?: string;
  cmd?: string;
  isnotfc?: boolean;
  version?: boolean;
  commit?: boolean;
  help?: boolean;
};

const withText = ["port", "host", "cmd"] as const;
const switches = ["isnotfc", "version", "commit", "help"] as const;

/** Something on the command line that is no flag of this program; the message says what and how to go on. */
export class FlagError extends Error {
  override readonly name = "FlagError";
}

/**
 * Reads `--name value`, `--name=value` and switches; one dash does as well, as programs written in Go take it. By hand,
 * since `node:util` costs a megabyte of every guest's memory. Throws {@link FlagError}.
 */
export function readFlags(argv: readonly string[]): Flags {
  const flags: Flags = {};
  for (let at = 0; at < argv.length; at++) {
    const [, given = "", , inline] = /^--?([a-z-]+)(=(.*))?$/s.exec(argv[at]!) ?? [];
    const name = given === "h" ? "help" : given;
    if (isOneOf(switches, name) && inline === undefined) flags[name] = true;
    else if (isOneOf(withText, name)) setText(flags, name, inline ?? argv[++at]);
    else throw new FlagError(`unknown argument '${argv[at]}'; see --help`);
  }
  return flags;
}

function isOneOf<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}

function setText(flags: Flags, name: (typeof withText)[number], value: string | undefined): void {
  if (value === undefined) throw new FlagError(`--${name} needs a value; see --help`);
  if (name !== "port") flags[name] = value;
  else if (/^\d{1,5}$/.test(value) && Number(value) <= 65_535) flags.port = Number(value);
  else throw new FlagError(`--port takes a number from 0 to 65535, not '${value}'`);
}
