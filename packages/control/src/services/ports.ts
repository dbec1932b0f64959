import { createHmac, timingSafeEqual } from "node:crypto";
import { agentPort, capsuleId, type SandboxId, WrennError } from "@wrenn/contract";
import { type Host, hostError } from "../hosts/host.ts";
import type { PortStore } from "../store/ports.ts";
import type { Terms } from "../store/schema/index.ts";
import { type Caller, systemCaller } from "./caller.ts";
import type { Waker } from "./e2b/waker.ts";
import { type Guests, type Route, routeMs } from "./guests.ts";
import type { Keys } from "./keys.ts";
import { limits } from "./limits.ts";

/** A link is for handing on, so it ends by itself: an hour when nothing else is asked for. */
const defaultLinkSec = 3_600;
/** Sandboxes whose public ports are remembered at once. */
const cacheSize = 20_000;

/** What a request to a port shows to be let in; each may be absent. */
export type Credentials = {
  token: string | null;
  apiKey: string | null;
  /** Values of our cookie: a page of another sandbox may have planted more beside it. */
  cookies: readonly string[];
  link: { signature: string; expires: string } | undefined;
};
/** Let in; `grant` is what a browser is given to come back with, where a link was shown. */
export type Admission = { host: Host; terms: Terms | null; grant?: { cookie: string; maxAgeSec: number } };
/** What a port's owner is told: how to reach it. */
export type PortAccess = { public: boolean; token?: string; link?: { signature: string; expires: number } };

/** Who may reach which port of a sandbox. All keys come from one secret, so that replicas need no table of tokens. */
export class Ports {
  readonly #public = new Map<string, { ports: Set<number>; until: number }>();

  readonly store: PortStore;
  readonly guests: Guests;
  readonly keys: Keys;
  readonly waker: Waker;
  readonly secret: Buffer;

  constructor(ground: Pick<Ports, "store" | "guests" | "keys" | "waker" | "secret">) {
    ({ store: this.store, guests: this.guests, keys: this.keys, waker: this.waker, secret: this.secret } = ground);
  }

  /** Opens a port to the world or not, when asked to, and answers how it is reached. */
  async open(
    caller: Caller,
    id: SandboxId,
    port: number,
    wish: { public?: boolean | undefined; expires_sec?: number | undefined },
  ): Promise<PortAccess> {
    await this.guests.sandboxes.get(caller, id);
    if (port === agentPort) throw agentsOwn();
    if (wish.public !== undefined) {
      await this.store.set(id, port, wish.public);
      this.#public.delete(id);
    }
    if (await this.#isPublic(id, port)) return { public: true };
    const expires = nowSec() + (wish.expires_sec ?? defaultLinkSec);
    return {
      public: false,
      token: this.token(id),
      link: { signature: this.#sign("link", id, port, expires), expires },
    };
  }

  /** Answers when something listens on a port of a running sandbox. Throws `timeout`. */
  async wait(caller: Caller, id: SandboxId, port: number, timeoutMs: number): Promise<void> {
    const { rpc } = await this.guests.locate(caller, id);
    const options = this.guests.fleet.options(caller, timeoutMs + limits.quick);
    try {
      await rpc.waitForPort({ id, port, timeoutMs: Math.round(timeoutMs) }, options);
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /** The token that opens every port of a sandbox but its agent's. */
  token(id: SandboxId): string {
    return this.#sign("traffic", id);
  }

  /**
   * Lets a request in, and wakes its sandbox if need be. Throws `not_found`, `invalid_state` when the sandbox does not
   * run, `unauthorized` without any credential and `forbidden` with none that fits.
   */
  async admit(id: SandboxId, port: number, shown: Credentials): Promise<Admission> {
    const route = await this.guests.visit(id);
    const grant = await this.#grant(id, port, shown, route);
    return { host: await this.#awake(id, route), terms: route.terms, ...grant };
  }

  /** Lets a request on to the sandbox's agent, which judges itself what the client shows. Throws as {@link admit}. */
  async admitToAgent(id: SandboxId): Promise<Admission & { team: string }> {
    const route = await this.guests.visit(id);
    return { host: await this.#awake(id, route), terms: route.terms, team: route.team };
  }

  async #awake(id: SandboxId, { host, asleep, team }: Route): Promise<Host> {
    if (asleep) await this.waker.wake(systemCaller({ teamId: team }), id);
    return host;
  }

  async #grant(
    id: SandboxId,
    port: number,
    shown: Credentials,
    { team, terms }: Route,
  ): Promise<Pick<Admission, "grant">> {
    if (terms && (terms.network?.allowPublicTraffic ?? true)) return {};
    if (await this.#isPublic(id, port)) return {};
    if (shown.token !== null && same(shown.token, this.token(id))) return {};
    if (shown.link) {
      const maxAgeSec = this.#left("link", id, port, [shown.link.expires, shown.link.signature]);
      if (maxAgeSec > 0) return { grant: { cookie: this.#cookie(id, port, shown.link.expires), maxAgeSec } };
    }
    for (const cookie of shown.cookies) if (this.#left("cookie", id, port, cookie.split(".")) > 0) return {};
    if (shown.apiKey !== null) {
      const key = await this.keys.open(shown.apiKey).catch(refusedKey);
      if (key?.team === team && (key.scopes === null || key.scopes.includes("sandboxes:exec"))) return {};
    }
    throw terms ? closed(id) : refusal(id, shown);
  }

  #cookie(id: SandboxId, port: number, expires: string): string {
    return `${expires}.${this.#sign("cookie", id, port, expires)}`;
  }

  /** Seconds that a seal is still good for; 0 when it is over or not ours. */
  #left(kind: "link" | "cookie", id: SandboxId, port: number, [expires = "", seal = ""]: readonly string[]): number {
    if (!/^\d{1,12}$/.test(expires) || !same(seal, this.#sign(kind, id, port, expires))) return 0;
    return Math.max(0, Number(expires) - nowSec());
  }

  #sign(kind: "traffic" | "link" | "cookie", ...parts: readonly (string | number)[]): string {
    return createHmac("sha256", this.secret)
      .update([kind, ...parts].join("\n"))
      .digest("base64url");
  }

  async #isPublic(id: SandboxId, port: number): Promise<boolean> {
    const known = this.#public.get(id);
    if (known && known.until > Date.now()) return known.ports.has(port);
    const ports = await this.store.publicOf(id);
    this.#public.delete(id);
    if (this.#public.size >= cacheSize) this.#public.delete(this.#public.keys().next().value!);
    this.#public.set(id, { ports, until: Date.now() + routeMs });
    return ports.has(port);
  }
}

const nowSec = (): number => Math.floor(Date.now() / 1000);

function same(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function refusedKey(thrown: unknown): undefined {
  if (thrown instanceof WrennError && thrown.code === "unauthorized") return undefined;
  throw thrown;
}

function refusal(id: SandboxId, { token, apiKey, cookies, link }: Credentials): WrennError {
  const shown = token !== null || apiKey !== null || cookies.length > 0 || link !== undefined;
  const details = { id: capsuleId(id) };
  const remedy = "POST /v1/capsules/{id}/ports/{port} gives a token and a link, or makes the port public.";
  if (shown) return new WrennError("forbidden", "What was shown does not open this port.", { remedy, details });
  return new WrennError("unauthorized", "The port is private.", { remedy, details });
}

/** E2B clients know one answer for both (E2B protocol, section 8). */
const closed = (id: SandboxId) =>
  new WrennError("forbidden", "The sandbox's ports are private: its traffic access token is missing or wrong.", {
    remedy: "Send the sandbox's trafficAccessToken in the header e2b-traffic-access-token.",
    details: { id: capsuleId(id) },
  });

const agentsOwn = () =>
  new WrennError("invalid_request", `Port ${agentPort} is the sandbox's agent.`, {
    remedy: "Reach the agent at /v1/capsules/{id}/agent/….",
  });
