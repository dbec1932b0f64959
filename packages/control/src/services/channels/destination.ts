import { type ClientRequest, request as plain } from "node:http";
import { request as secure } from "node:https";
import { BlockList, isIP, isIPv6 } from "node:net";
import { WrennError } from "@wrenn/contract";
import { checkedLookup } from "@wrenn/contract/checked-lookup";

/** What a destination is given to answer (Wrenn control plane 10). */
const patienceMs = 10_000;
/** More of an answer than this says nothing to anybody. */
const maxAnswerBytes = 4_096;

/** A message as it is sent. */
export type Message = { url: string; method?: string; headers: Record<string, string>; body: string };

/** Addresses of this machine and of private networks (RFC 6890); a team must not reach those through us. */
const inner = new BlockList();
for (const [net, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const)
  inner.addSubnet(net, bits, "ipv4");
for (const [net, bits] of [
  ["::", 128],
  ["::1", 128],
  ["64:ff9b::", 96],
  ["100::", 64],
  ["2001::", 23],
  ["2001:db8::", 32],
  ["fc00::", 7],
  ["fe80::", 10],
  ["ff00::", 8],
] as const)
  inner.addSubnet(net, bits, "ipv6");

/** Whether everybody may be sent there. */
export function isPublicAddress(address: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped) return isPublicAddress(mapped);
  if (isIP(address) === 0) return false;
  return !inner.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}

/** Throws `invalid_request` for what is no address of the web, or one that names a machine inside. */
export function checkDestination(text: string, allowsPrivate: boolean): void {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== "")
    throw bad(
      `"${text.slice(0, 100)}" is not an http(s) address.`,
      "Give an address such as https://example.com/hook.",
    );
  const name = url.hostname.replace(/^\[|\]$/g, "");
  if (!allowsPrivate && isIP(name) !== 0 && !isPublicAddress(name)) throw forbidden(name);
}

/**
 * Sends a message and answers the status. The name is resolved once and what it names is what is connected to, so that
 * a name cannot change between check and use; redirects are not followed. Throws `invalid_request`, `timeout`, `agent_error`.
 */
export async function send(message: Message, allowsPrivate: boolean): Promise<number> {
  checkDestination(message.url, allowsPrivate);
  const url = new URL(message.url);
  const { promise, resolve: answered, reject } = Promise.withResolvers<number>();
  const body = Buffer.from(message.body);
  const options = {
    method: message.method ?? "POST",
    headers: { ...message.headers, "content-length": `${body.length}` },
    lookup: checkedLookup((address) => allowsPrivate || isPublicAddress(address), forbidden),
    agent: false as const,
  };
  const request: ClientRequest = (url.protocol === "https:" ? secure : plain)(url, options, (response) => {
    let size = 0;
    response.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxAnswerBytes) response.destroy();
    });
    response.on("error", () => {});
    answered(response.statusCode!);
  });
  const late = new WrennError("timeout", `The destination did not answer within ${patienceMs / 1_000} s.`);
  const timer = setTimeout(() => {
    reject(late);
    request.destroy(late);
  }, patienceMs);
  request.on("error", (thrown) =>
    reject(
      thrown instanceof WrennError
        ? thrown
        : new WrennError("invalid_request", "The destination cannot be reached.", {
            remedy: "Check its address, and that this server may reach it.",
            cause: thrown,
          }),
    ),
  );
  request.end(body);
  return await promise.finally(() => clearTimeout(timer));
}

const bad = (message: string, remedy: string) => new WrennError("invalid_request", message, { remedy });
const forbidden = (name: string) =>
  bad(
    `"${name}" is inside this installation's network.`,
    "Use a public address, or ask the operator to allow private ones.",
  );
