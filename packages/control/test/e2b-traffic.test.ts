import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { rest } from "@wrenn/contract";
import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";
import { e2bCalls } from "./support/e2b.ts";
import { planeOfFile } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const plane = planeOfFile();

const { act, create, refusal, status } = e2bCalls(plane);

const e2bSecret = (name: string) => `\${e2b.secrets.${name}}`;

describe("outgoing traffic", () => {
  const change = (id: string, body: object) => status(plane().fetch("PUT", `/sandboxes/${id}/network`, body));
  const held = (id: string) => {
    const { internet, allow, deny } = plane().host.networks.get(id)!;
    return { internet, allow, deny };
  };
  const closed = { internet: false, allow: [], deny: [] };

  for (const body of [{ allow_internet_access: false }, { network: { denyOut: ["0.0.0.0/0"] } }])
    test(`${JSON.stringify(body)} closes it, and a change opens it`, async () => {
      const { sandboxID: id } = await create(body);
      expect(held(id)).toEqual(closed);
      expect(await change(id, {})).toBe(204);
      expect(held(id)).toEqual({ ...closed, internet: true });
    });

  test("names and ranges are allowed before everything is denied; a change replaces all of it, and is shown", async () => {
    const network = { denyOut: ["0.0.0.0/0"], allowOut: ["PyPI.org", "*.pythonhosted.org", "1.1.1.1"] };
    const { sandboxID: id } = await create({ network: { ...network, allowPublicTraffic: false } });
    expect(held(id)).toEqual({ internet: false, allow: ["pypi.org", "*.pythonhosted.org", "1.1.1.1"], deny: [] });
    expect(await change(id, { denyOut: ["8.8.8.0/24"] })).toBe(204);
    expect(held(id)).toEqual({ internet: true, allow: [], deny: ["8.8.8.0/24"] });
    const shown = await plane().json<rest.e2b.SandboxDetail>(200, "GET", `/sandboxes/${id}`);
    expect(shown.network).toEqual({ denyOut: ["8.8.8.0/24"], allowPublicTraffic: false });
  });

  test("a resume and a fork have the rules that hold now", async () => {
    const { sandboxID: id } = await create();
    expect(await change(id, { allow_internet_access: false })).toBe(204);
    plane().host.networks.delete(id);
    await act(id, "pause");
    await act(id, "resume");
    expect(held(id)).toEqual(closed);
    const [fork] = await plane().json<{ sandbox: rest.e2b.Sandbox }[]>(201, "POST", `/sandboxes/${id}/fork`, {});
    expect(held(fork!.sandbox.sandboxID)).toEqual(closed);
  });

  for (const [what, network] of Object.entries({
    "a name among what is denied": { denyOut: ["evil.test"] },
    "a name that is allowed while everything is": { allowOut: ["pypi.org"] },
    "a range that is none": { denyOut: ["10.0.0.0/33"] },
    "a rule of an unknown kind": { rules: { "a.test": [{ transform: { body: "x" } }] } },
    "a header that frames the message": {
      rules: { "a.test": [{ transform: { headers: { "Content-Length": "1" } } }] },
    },
    "a header of two lines": { rules: { "a.test": [{ transform: { headers: { a: "b\r\nc: d" } } }] } },
    "a secret that is missing": { rules: { "a.test": [{ transform: { headers: { a: e2bSecret("none") } } }] } },
    "a proxy": { egressProxy: { address: "203.0.113.1:1080" } },
  }))
    test(`${what} is refused, and makes nothing`, async () => {
      const made = plane().host.sandboxes.size;
      expect(await refusal(plane().fetch("POST", "/sandboxes", { templateID: "minimal", network }))).toMatchObject({
        code: 400,
      });
      expect(plane().host.sandboxes.size).toBe(made);
      const { sandboxID: id } = await create();
      expect(await change(id, network)).toBe(400);
    });

  test("a secret's value goes to the host, and nowhere else", async () => {
    await plane().json(201, "POST", "/secrets", { name: "key", value: "s3cret" });
    const headers = { Authorization: `Bearer ${e2bSecret("key")}`, "x-own": `${rest.secretPlaceholder("key")}!` };
    const { sandboxID: id } = await create({ network: { rules: { "api.test": [{ transform: { headers } }] } } });
    expect(plane().host.networks.get(id)!.rules).toMatchObject([
      { host: "api.test", headers: { authorization: "Bearer s3cret", "x-own": "s3cret!" } },
    ]);
    for (const path of [`/sandboxes/${id}`, `/v1/capsules/cl-${id}/network`])
      expect(await (await plane().fetch("GET", path)).text()).not.toContain("s3cret");
  });

  test("a value with a line break cannot become a header", async () => {
    await plane().json(201, "POST", "/secrets", { name: "split", value: "a\r\nhost: evil.test" });
    const { sandboxID: id } = await create();
    const headers = { a: e2bSecret("split") };
    expect(await change(id, { rules: { "api.test": [{ transform: { headers } }] } })).toBe(400);
  });

  test("the Wrenn dialect shows what holds, what was reached and what was refused", async () => {
    const { sandboxID } = await create({ allow_internet_access: false });
    const path = `/v1/capsules/cl-${sandboxID}/network`;
    const shown = await plane().json<rest.CapsuleNetwork>(200, "GET", path);
    expect(shown).toMatchObject({
      policy: closed,
      connections: [{ host: "api.test", port: 443, count: 2, sent_bytes: 3 }],
      denials: [{ ip: "203.0.113.1" }],
    });
    const policy = { internet: false, allow: ["pypi.org"], deny: [] };
    expect(await plane().json<rest.CapsuleNetwork>(200, "PUT", path, policy)).toMatchObject({ policy });
    expect(held(sandboxID)).toEqual(policy);
  });
});

describe("identity tokens", () => {
  const token = (name: string) => `\${e2b.identity.tokens.${name}}`;
  const rules = (name: string) => ({
    "sts.test": [{ transform: { headers: { authorization: `Bearer ${token(name)}` } } }],
  });
  const iam = { tokens: { aws: { audience: "sts.test", tokenType: "JWT-SVID" as const } } };
  const sent = (id: string) => plane().host.networks.get(id)!.rules[0]!.headers.authorization!.replace("Bearer ", "");

  test("are signed for their audience, and anybody can check them", async () => {
    const { sandboxID: id } = await create({ iam, network: { rules: rules("aws") } });
    const found = (await (await fetch(`${plane().address}/.well-known/openid-configuration`)).json()) as {
      issuer: string;
      jwks_uri: string;
    };
    const keys = createRemoteJWKSet(new URL(found.jwks_uri));
    const { payload } = await jwtVerify(sent(id), keys, { issuer: found.issuer, audience: "sts.test" });
    expect(payload.sandbox_id).toBe(id);
    expect(payload.sub).toStartWith("spiffe://localhost/team/");
    expect(payload.sub).toEndWith(`/sandbox/${id}`);
    expect(await jwtVerify(sent(id), keys, { audience: "other.test" }).catch(() => "refused")).toBe("refused");
    const [fork] = await plane().json<{ sandbox: rest.e2b.Sandbox }[]>(201, "POST", `/sandboxes/${id}/fork`, {});
    expect(decodeJwt(sent(fork!.sandbox.sandboxID)).sandbox_id).toBe(fork!.sandbox.sandboxID);
  });

  test("are not given out as keys, nor by a name that was not registered, nor of another type", async () => {
    expect(await (await fetch(`${plane().address}/.well-known/jwks.json`)).text()).not.toContain('"d"');
    const other = { tokens: { aws: { ...iam.tokens.aws, tokenType: "X509-SVID" } } };
    for (const body of [
      { iam, network: { rules: rules("gcp") } },
      { network: { rules: rules("aws") } },
      { iam: other },
    ])
      expect(await refusal(plane().fetch("POST", "/sandboxes", { templateID: "minimal", ...body }))).toMatchObject({
        code: 400,
      });
  });
});
