import { rest } from "@wrenn/contract";
import { needPerson } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import { type App, endpoint } from "../endpoint.ts";

/** `/v1/me/mfa`: the second factor. */
export function mfaRoutes(app: App, { secondFactor }: Services): void {
  const codes = ["unauthorized", "mfa_required", "rate_limited"] as const;
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/me/mfa", access: "person", status: 200, answer: rest.MfaEnrolment },
      summary: "A secret for an authenticator; it counts once a code of it is confirmed.",
      codes: ["conflict"],
    },
    async ({ caller }) => secondFactor.enrol(needPerson(caller)),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/me/mfa/confirm", access: "person", status: 200 },
      ...{ body: rest.CodeBody, answer: rest.RecoveryCodes },
      summary: "Turn the second factor on; answers codes for a lost authenticator, this once.",
      codes,
    },
    async ({ caller, body }) => ({ recovery_codes: await secondFactor.confirm(needPerson(caller), body.code) }),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/me/mfa/recovery-codes", access: "person", status: 200 },
      ...{ body: rest.CodeBody, answer: rest.RecoveryCodes },
      summary: "New codes for a lost authenticator; the old ones end.",
      codes,
    },
    async ({ caller, body }) => ({
      recovery_codes: await secondFactor.renewRecoveryCodes(needPerson(caller), body.code),
    }),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/me/mfa", access: "person", status: 204, body: rest.CodeBody },
      summary: "Turn the second factor off.",
      codes,
    },
    async ({ caller, body }) => secondFactor.disable(needPerson(caller), body.code),
  );
}
