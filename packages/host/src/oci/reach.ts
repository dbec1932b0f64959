import { type IncomingMessage, request as plain } from "node:http";
import { request as secure } from "node:https";
import { isIP } from "node:net";
import { WrennError } from "@wrenn/contract";
import { checkedLookup } from "@wrenn/contract/checked-lookup";
import { isBelowFloor } from "../drivers/floor.ts";

/** A server that says nothing for this long is taken for dead; the next try goes on where this one ended. */
const silentMs = 30_000;

/** Opens addresses that strangers name. A name is resolved once, and what was checked is what is connected to. */
export class Reach {
  readonly #allowed: ReadonlySet<string>;

  /** `allowed`: hosts (`NAME[:PORT]`) that may be inside this machine's own networks. */
  constructor(allowed: readonly string[]) {
    this.#allowed = new Set(allowed);
  }

  /** Whether a host may be one of this machine's own networks; such registries may speak plain HTTP. */
  isAllowed(host: string): boolean {
    return this.#allowed.has(host) || this.#allowed.has(host.replace(/:\d+$/, ""));
  }

  /** One request; redirects are the caller's. Throws `invalid_request` for an inner address, `agent_error` for a broken connection. */
  get(url: URL, headers: Readonly<Record<string, string>>): Promise<IncomingMessage> {
    if (!/^https?:$/.test(url.protocol))
      throw new WrennError("invalid_request", `${url.protocol} is no way to a registry`);
    const mayBeInner = this.isAllowed(url.host);
    const name = url.hostname.replace(/^\[|\]$/g, "");
    if (!mayBeInner && isIP(name) !== 0 && isBelowFloor(name)) throw inner(url.host);
    if (!mayBeInner && url.protocol === "http:") throw unsafe(url.host);
    const { promise, resolve: answered, reject } = Promise.withResolvers<IncomingMessage>();
    const lookup = checkedLookup(
      (address) => mayBeInner || !isBelowFloor(address),
      () => inner(url.host),
    );
    const options = { headers, lookup, agent: false as const, timeout: silentMs };
    const request = (url.protocol === "https:" ? secure : plain)(url, options, answered);
    request.on("timeout", () => request.destroy(new Error(`${url.host} is silent`)));
    request.on("error", (cause) => reject(cause instanceof WrennError ? cause : unreachable(url.host, cause)));
    request.end();
    return promise;
  }
}

const unreachable = (host: string, cause: Error) =>
  new WrennError("agent_error", `${host} cannot be reached`, {
    cause,
    remedy:
      "Look at the host's way to it: network, name service, firewall. `docker save` writes a file that needs none.",
  });

const inner = (host: string) =>
  new WrennError("invalid_request", `${host} is inside this host's own networks`, {
    remedy: "Use a public registry, or ask the operator to name it in WRENN_REGISTRIES.",
  });

const unsafe = (host: string) =>
  new WrennError("invalid_request", `${host} is asked without encryption`, {
    remedy: "Use a registry with HTTPS, or ask the operator to name it in WRENN_REGISTRIES.",
  });
