import type { Socket } from "node:net";
import { plainName } from "./sniff.ts";

/** Longest head that is read: real servers take less. */
const maxHeadBytes = 64 * 1024;
const headTimeoutMs = 30_000;

/** A request's first line and fields, as they came. */
export type Head = {
  readonly line: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** The one host it names, without a port. */
  readonly host: string | undefined;
};

/** Fields of one connection only (RFC 9110, section 7.6.1), and those a guest could hide others behind. */
const ofConnection = ["connection", "keep-alive", "proxy-connection", "proxy-authorization"];

/**
 * Reads the head of a request; what follows stays to be read. Text: why it is refused. Only what every server reads in
 * the same way is taken.
 */
export async function readHead(client: Socket): Promise<Head | string> {
  const bytes = await untilBlankLine(client);
  if (!bytes) return "The head of the request is too long, or did not come.";
  const [line = "", ...rows] = bytes.toString("latin1").slice(0, -4).split("\r\n");
  if (!/^[!-~]+ [!-~]+ HTTP\/1\.[01]$/.test(line)) return "The request line is malformed.";
  const fields = rows.map((row) => /^([!#$%&'*+.^_`|~0-9a-zA-Z-]+):[ \t]*([^\r\n\0]*?)[ \t]*$/.exec(row));
  if (fields.some((field) => field === null)) return "A header is malformed.";
  const pairs = fields.map((field) => [field![1]!, field![2]!] as const);
  const hosts = pairs.filter(([name]) => name.toLowerCase() === "host");
  if (hosts.length !== 1) return "The request names no host, or several.";
  return { line, fields: pairs, host: plainName(hosts[0]![1].replace(/:\d{1,5}$/, "")) };
}

/** A head with these fields in place of those of the same names, as of the only request of its connection. */
export function withHeaders({ line, fields }: Head, set: Readonly<Record<string, string>>): Buffer {
  const gone = new Set([...ofConnection, ...Object.keys(set).map((name) => name.toLowerCase())]);
  const isUpgrade = fields.some(([name]) => name.toLowerCase() === "upgrade");
  const kept = fields.filter(([name]) => !gone.has(name.toLowerCase()));
  const all = [...kept, ...Object.entries(set), ["Connection", isUpgrade ? "Upgrade" : "close"] as const];
  return Buffer.from(`${[line, ...all.map((pair) => pair.join(": "))].join("\r\n")}\r\n\r\n`, "latin1");
}

function untilBlankLine(client: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    const settle = (end?: number) => {
      clearTimeout(timer);
      client.pause();
      client.off("data", look).off("end", gone).off("close", gone);
      if (end === undefined) return resolve(undefined);
      if (end < bytes.length && !client.destroyed) client.unshift(bytes.subarray(end));
      resolve(bytes.subarray(0, end));
    };
    const gone = () => settle();
    const look = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      const at = bytes.indexOf("\r\n\r\n");
      if (at >= 0) settle(at + 4);
      else if (bytes.length > maxHeadBytes) settle();
    };
    const timer = setTimeout(gone, headTimeoutMs);
    client.on("data", look).on("end", gone).on("close", gone).resume();
  });
}
