import type { GuestProcess } from "./process.ts";

/** One thing that happened, as the host asks for it. Times are ms since 1970. */
export type Happening = {
  readonly seq: number;
  readonly atMs: number;
  readonly level: "info" | "warn";
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
};

/** Enough for the time between two looks of the host, and little beside what a process itself takes. */
const mostKept = 512;

/** A command line is told for people; its end says nothing more after this. */
const mostChars = 300;

const kept: Happening[] = [];
let last = 0;

function note(level: Happening["level"], message: string, fields: Record<string, string>): void {
  last++;
  kept.push({ seq: last, atMs: Date.now(), level, message, fields });
  if (kept.length > mostKept) kept.shift();
}

/** Forgets everything that happened. */
export function forget(): void {
  kept.length = 0;
}

/** Notes that a process was started, and how it ends. */
export function follow(process: GuestProcess): void {
  const line = lineOf(process.request);
  const shown = line.length > mostChars ? `${line.slice(0, mostChars)}…` : line;
  const fields = { pid: `${process.pid}`, ...(process.tag !== undefined && { tag: process.tag }) };
  note("info", `started: ${shown}`, fields);
  const ended = () => {
    const { exitCode = 0, status = "" } = process.end ?? {};
    note(exitCode === 0 ? "info" : "warn", `ended: ${shown}: ${status}`, { ...fields, exit_code: `${exitCode}` });
  };
  if (process.end) ended();
  else process.onEnd.add(ended);
}

/** What people would have typed: clients wrap a line of theirs in a shell. */
function lineOf({ cmd, args }: GuestProcess["request"]): string {
  const isScript = /^-[a-z]*c$/.test(args.at(-2) ?? "") && /(^|\/)(ba|da|z)?sh$/.test(cmd);
  return isScript ? args.at(-1)! : [cmd, ...args].join(" ");
}

/** What happened after number `seq`, oldest first, and the number of the last of all. */
export function since(seq: number): { last: number; happenings: Happening[] } {
  return { last, happenings: kept.filter((one) => one.seq > seq) };
}
