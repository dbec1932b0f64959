import { z } from "zod";
import type { Identities } from "../../services/network/identities.ts";
import { type App, endpoint } from "../endpoint.ts";

/** `/.well-known/…`: where services that are shown a sandbox's identity token find the key to check it. */
export function identityRoutes(app: App, identities: Identities): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/.well-known/openid-configuration",
      access: "open",
      summary: "Who signs the identity tokens of sandboxes.",
      status: 200,
      answer: z.object({ issuer: z.string(), jwks_uri: z.string() }).loose(),
    },
    async () => identities.discovery(),
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/.well-known/jwks.json",
      access: "open",
      summary: "The keys that identity tokens of sandboxes are checked with.",
      status: 200,
      answer: z.object({ keys: z.array(z.record(z.string(), z.unknown())) }),
    },
    async () => identities.keys(),
  );
}
