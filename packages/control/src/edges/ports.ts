import { capsuleId, rest, WrennError } from "@wrenn/contract";
import type { Context } from "hono";
import type { Ports } from "../services/ports.ts";
import { type App, type Env, endpoint } from "./endpoint.ts";
import { linkParameters, readPort } from "./ingress.ts";

/** `/v1/capsules/{id}/ports/{port}`; `domain` is what port addresses end in, the request's own host when it is absent. */
export function portRoutes(app: App, ports: Ports, domain: string | undefined): void {
  waitRoute(app, ports);
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/ports/{port}",
      summary: "How a port of a sandbox is reached; it is private until it is made public.",
      body: rest.OpenPort,
      status: 200,
      answer: rest.PortInfo,
    },
    async ({ caller, id, body, c }): Promise<rest.PortInfo> => {
      const port = portOf(c);
      const access = await ports.open(caller, id, port, body);
      const url = `${origin(c, `${port}-${capsuleId(id)}`, domain)}/`;
      return {
        url,
        public: access.public,
        ...(access.token !== undefined && { token: access.token }),
        ...(access.link && {
          signed_url: `${url}?${linkParameters.signature}=${access.link.signature}&${linkParameters.expires}=${access.link.expires}`,
        }),
      };
    },
  );
}

function waitRoute(app: App, ports: Ports): void {
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/ports/{port}/wait",
      summary: "Answer when something listens on a port of a running sandbox.",
      body: rest.WaitForPort,
      status: 204,
      codes: ["timeout", "invalid_state", "host_unavailable", "agent_error"],
    },
    async ({ caller, id, body, c }) => ports.wait(caller, id, portOf(c), body.timeout_sec * 1_000),
  );
}

/** The port in the path. Throws `invalid_request`. */
function portOf(c: Context<Env>): number {
  const port = readPort(c.req.param("port")!);
  if (port !== undefined) return port;
  throw new WrennError("invalid_request", "The port in the path is none.", { remedy: "Ports are 1 to 65535." });
}

/** Where browsers find `label`: below the domain for ports, else below the host that was asked, `localhost` for an address. */
function origin(c: Context<Env>, label: string, domain: string | undefined): string {
  const asked = new URL(c.req.url);
  const scheme = c.req.header("x-forwarded-proto")?.split(",")[0]?.trim() === "https" ? "https:" : asked.protocol;
  const isAddress = /^[\d.]+$|^\[/.test(asked.hostname);
  const own = isAddress ? `localhost${asked.port && `:${asked.port}`}` : asked.host;
  return `${scheme}//${label}.${domain ?? own}`;
}
