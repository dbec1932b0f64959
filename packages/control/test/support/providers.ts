import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import Provider from "oidc-provider";
import type { ProviderOptions } from "../../src/config-access.ts";

/** What an issuer says about who is signed in there. */
export type IssuerPerson = { sub: string; email: string; name: string; email_verified: boolean };

/** A real issuer of OpenID Connect on loopback, at which everybody is `person` and consents to everything. */
export async function startIssuer() {
  const server = createServer();
  const address = await listen(server);
  const secret = "a-client-secret-of-the-test";
  const client = { client_id: "wrenn", client_secret: secret, redirect_uris: ["http://localhost/none"] };
  const issuer = {
    person: { sub: "", email: "", name: "", email_verified: false } as IssuerPerson,
    options: {
      id: "oidc",
      name: "Example",
      issuer: address,
      clientId: "wrenn",
      clientSecret: secret,
    } as ProviderOptions,
    /** Lets the client be sent back to `url`; the issuer answers from then on. */
    allow(url: string) {
      const provider = new Provider(address, {
        clients: [{ ...client, redirect_uris: [url] }],
        claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
        conformIdTokenClaims: false,
        pkce: { required: () => true },
        features: { devInteractions: { enabled: false } },
        findAccount: (_, sub) => ({ accountId: sub, claims: async () => ({ ...issuer.person, sub }) }),
        interactions: { url: (_, { uid }) => `/person/${uid}` },
        loadExistingGrant: async (context) => {
          const grant = new context.oidc.provider.Grant({
            clientId: "wrenn",
            accountId: context.oidc.session!.accountId!,
          });
          grant.addOIDCScope("openid email profile");
          await grant.save();
          return grant;
        },
      });
      const serve = provider.callback();
      server.on("request", (request, response) => {
        if (!request.url?.startsWith("/person/")) return void serve(request, response);
        void provider.interactionFinished(request, response, { login: { accountId: issuer.person.sub } });
      });
    },
    stop: () => close(server),
  };
  return issuer;
}

/** What GitHub says about who is signed in there. */
export type GithubPerson = { id: number; login: string; name: string; email: string; verified: boolean };

/** A server that speaks GitHub's OAuth and the two API calls that follow it, with PKCE, one code one token. */
export async function startGithub() {
  const codes = new Map<string, string>();
  const tokens = new Set<string>();
  const github = {
    person: { id: 0, login: "", name: "", email: "", verified: false } as GithubPerson,
    options: { id: "github", name: "GitHub", clientId: "gh", clientSecret: "gh-secret" } as ProviderOptions,
    stop: async () => {},
  };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const url = new URL(request.url);
      const token = request.headers.get("authorization")?.replace("Bearer ", "") ?? "";
      const { person } = github;
      if (url.pathname === "/login/oauth/authorize") {
        const code = crypto.randomUUID();
        codes.set(code, url.searchParams.get("code_challenge")!);
        const back = new URL(url.searchParams.get("redirect_uri")!);
        back.search = `${new URLSearchParams({ code, state: url.searchParams.get("state")! })}`;
        return Response.redirect(back.href, 302);
      }
      if (url.pathname === "/login/oauth/access_token") {
        const form = await request.formData();
        const challenge = codes.get(String(form.get("code")));
        codes.delete(String(form.get("code")));
        const shown = new Bun.CryptoHasher("sha256").update(String(form.get("code_verifier"))).digest("base64url");
        const isRight =
          form.get("client_id") === "gh" && form.get("client_secret") === "gh-secret" && shown === challenge;
        if (!isRight) return Response.json({ error: "bad_verification_code" });
        const made = crypto.randomUUID();
        tokens.add(made);
        return Response.json({ access_token: made, token_type: "bearer", scope: "user:email" });
      }
      if (!tokens.has(token)) return new Response(null, { status: 401 });
      if (url.pathname === "/api/v3/user")
        return Response.json({ id: person.id, login: person.login, name: person.name });
      if (url.pathname === "/api/v3/user/emails")
        return Response.json([
          { email: "old@example.com", primary: false, verified: true },
          { email: person.email, primary: true, verified: person.verified },
        ]);
      return new Response(null, { status: 404 });
    },
  });
  github.options.baseUrl = `http://127.0.0.1:${server.port}`;
  github.stop = () => server.stop(true);
  return github;
}

/** What a browser does with redirects and cookies, enough for a sign-in. */
export class Browser {
  readonly #jar = new Map<string, Map<string, string>>();
  readonly #set = new Map<string, string>();

  /** Plants a cookie. */
  cookie(url: string, pair: string): void {
    const [name = "", value = ""] = pair.split(/=(.*)/s);
    const origin = new URL(url).origin;
    this.#jar.set(origin, (this.#jar.get(origin) ?? new Map()).set(name, value));
  }

  /** The whole line that set a cookie. */
  setBy(url: string, name: string): string {
    return this.#set.get(`${new URL(url).origin} ${name}`) ?? "";
  }

  async get(url: string, method = "GET"): Promise<Response> {
    const { origin } = new URL(url);
    const cookie = [...(this.#jar.get(origin) ?? [])].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(url, { method, redirect: "manual", headers: { cookie, "x-wrenn-csrf": "1" } });
    for (const line of answer.headers.getSetCookie()) {
      this.#set.set(`${origin} ${line.split("=")[0]}`, line);
      this.cookie(url, line.split(";")[0]!);
    }
    return answer;
  }

  /** Follows redirects as far as the dashboard; answers where that is. */
  async follow(url: string): Promise<string> {
    for (let at = url, hops = 0; hops < 12; hops++) {
      const answer = await this.get(at);
      const location = answer.headers.get("location");
      if (location === null) throw new Error(`${at}: ${answer.status} ${await answer.text()}`);
      at = new URL(location, at).href;
      if (/\/auth\/\w+\/callback|\/dashboard\//.test(new URL(at).pathname) && !at.includes("/auth/oauth/")) return at;
    }
    throw new Error(`${url} leads nowhere`);
  }

  async json(url: string): Promise<unknown> {
    return await (await this.get(url)).json();
  }
}

function listen(server: Server): Promise<string> {
  return new Promise((done) =>
    server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)),
  );
}

function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((done) => server.close(() => done()));
}
