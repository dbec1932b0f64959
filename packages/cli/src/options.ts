import { InvalidArgumentError } from "commander";

/** The flag of every command that can print JSON. */
export type Json = { json?: boolean };

/** Collects `K=V` options given several times. */
export function pair(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Write it as NAME=VALUE.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** Collects values of an option given several times. */
export const list = (text: string, before: readonly string[] = []): string[] => [...before, text];

/** Collects `HOST=NAME: VALUE` options given several times, by host. */
export function networkHeader(
  text: string,
  before: Record<string, Record<string, string>> = {},
): Record<string, Record<string, string>> {
  const [, host, name, value] = /^([^=\s]+)=([^:\s]+):\s*(.*)$/.exec(text) ?? [];
  if (!host || !name || value === undefined) throw new InvalidArgumentError("Write it as HOST=NAME: VALUE.");
  return { ...before, [host]: { ...before[host], [name]: value } };
}

/** Collects `NAME:/PATH` options given several times, names by path. */
export function mount(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [, name, path] = /^([^:]+):(\/.*)$/.exec(text) ?? [];
  if (!name || !path) throw new InvalidArgumentError("Write it as NAME:/PATH.");
  if (path in before) throw new InvalidArgumentError(`Two volumes cannot be mounted at ${path}.`);
  return { ...before, [path]: name };
}

/** A whole number of at least 0. */
export function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}

/** A port of a sandbox, 1 to 65535. */
export function portNumber(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new InvalidArgumentError("Give a number from 1 to 65535.");
  return port;
}

/** A whole number of at least 1. */
export function positive(text: string): number {
  const number = whole(text);
  if (number === 0) throw new InvalidArgumentError("Give a whole number of at least 1.");
  return number;
}

const msOf = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration such as `90`, `90s`, `5m`, `2h`, in milliseconds; a bare number is seconds. */
export function duration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)?$/.exec(text);
  if (!match) throw new InvalidArgumentError("Give a duration such as 90s, 5m or 2h.");
  return Number(match[1]) * msOf[(match[2] ?? "s") as keyof typeof msOf];
}

const mibOf = { m: 1, mib: 1, mb: 1, g: 1024, gib: 1024, gb: 1024 } as const;

/** A size such as `512`, `512M` or `2G`, in MiB; a bare number is MiB. */
export function mebibytes(text: string): number {
  const match = /^(\d{1,9})(m|mib|mb|g|gib|gb)?$/i.exec(text);
  if (!match) throw new InvalidArgumentError("Give a size such as 512M or 2G.");
  return Number(match[1]) * mibOf[(match[2] ?? "m").toLowerCase() as keyof typeof mibOf];
}

/** The object without its undefined members. */
export function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
