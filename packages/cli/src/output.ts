import { styleText } from "node:util";
import { WrennError } from "wrenn";
import { inOwnWords, isRefusedField } from "./words.ts";

/** An error of the program rather than of the server: it ends with `exitCode` and prints like every other. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly remedy: string | undefined;
  readonly exitCode: number;

  constructor(message: string, remedy?: string, exitCode = 1) {
    super(message);
    this.remedy = remedy;
    this.exitCode = exitCode;
  }
}

/** Exit code of a command line that cannot be understood. */
export const badUsage = 2;

/** A {@link Failure} for a command line that cannot be understood. */
export const usage = (message: string, remedy?: string): Failure => new Failure(message, remedy, badUsage);

type Style = Parameters<typeof styleText>[0];

/** Colours text for a stream that is a terminal and whose reader did not ask for none (no-color.org). */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return stream.isTTY && !process.env.NO_COLOR && process.env.TERM !== "dumb"
    ? styleText(style, text, { validateStream: false })
    : text;
}

/** One line to standard output. */
export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** One JSON document on one line of standard output. */
export const printJson = (value: unknown): void => print(JSON.stringify(value));

/** Columns as wide as their widest cell. Control characters of a guest never reach the terminal. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(printable));
  const widths = head.map((title, at) => Math.max(title.length, ...clean.map((row) => row[at]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, at) => (at === head.length - 1 ? cell : cell.padEnd(widths[at] ?? 0))).join("  ");
  return [paint("dim", line(head)), ...clean.map(line)].join("\n");
}

/** Prints a {@link table}. A person who has none of its rows yet is told how to get the first instead of its head alone. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[], none: string): void {
  print(rows.length === 0 && process.stdout.isTTY ? paint("dim", none) : table(head, rows));
}

/** Text without control characters: what a guest or another user chose cannot move the cursor or change colours. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the purpose
export const printable = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "\ufffd");

/** "3m", "2h", "5d": time since a moment, in its largest whole unit. */
export function age(since: Date, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - since.getTime()) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Bytes in the largest binary unit that leaves at least 1. */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** at;
  return `${value >= 10 || at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

/**
 * Prints an error as `error:`, `cause:` and `remedy:` lines, or as one JSON document, on standard error; returns the
 * exit code. `command` is what was called, such as `wrenn create`.
 */
export function report(thrown: unknown, json: boolean, command = "wrenn"): number {
  const said = inOwnWords(thrown, command);
  const error = said instanceof Error ? said : new Error(String(said));
  const remedy = error instanceof WrennError || error instanceof Failure ? error.remedy : undefined;
  const cause = error instanceof WrennError ? error.behind : undefined;
  if (json) {
    const code =
      error instanceof WrennError ? error.code : exitCodeOf(error) === badUsage ? "invalid_request" : "failed";
    const details = error instanceof WrennError && error.details ? { details: error.details } : {};
    const more = { ...(cause && { cause }), ...(remedy && { remedy }), ...details };
    const body = { error: { code, message: error.message, ...more } };
    process.stderr.write(`${JSON.stringify(body)}\n`);
  } else {
    process.stderr.write(`${paint(["red", "bold"], "error:", process.stderr)} ${error.message}\n`);
    if (cause) process.stderr.write(`${paint("dim", "cause:", process.stderr)} ${cause}\n`);
    if (remedy) process.stderr.write(`${paint("cyan", "remedy:", process.stderr)} ${remedy}\n`);
    const requestId = error instanceof WrennError ? error.details?.requestId : undefined;
    if (requestId) process.stderr.write(`${paint("dim", "request:", process.stderr)} ${requestId}\n`);
  }
  if (process.env.WRENN_DEBUG) process.stderr.write(`${error.stack}\n${String(error.cause ?? "")}\n`);
  return exitCodeOf(error);
}

function exitCodeOf(error: Error): number {
  if (error instanceof Failure) return error.exitCode;
  return isRefusedField(error) ? badUsage : 1;
}
