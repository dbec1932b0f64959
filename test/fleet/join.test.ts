import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { rest } from "@wrenn/contract";
import { freshDatabase } from "../../packages/control/test/support/postgres.ts";
import { Balancer } from "./balancer.ts";
import { freePort, Part, TestFleet } from "./fleet.ts";

let fleet: TestFleet;

beforeAll(async () => {
  fleet = await TestFleet.start({ databaseUrl: await freshDatabase(), planes: 2, agents: 2 });
}, 180_000);
afterAll(() => fleet[Symbol.asyncDispose]());

type Refused = { error: { code: string; remedy?: string; sandbox_ids?: string[] } };
const refusal = async (response: Response) => [response.status, ((await response.json()) as Refused).error.code];

describe("a fleet of two control planes and two registered hosts", () => {
  test("hosts tell their size, and both control planes show them the same", async () => {
    const [one, other] = await Promise.all([0, 1].map((at) => fleet.json<rest.Host[]>(at, "GET", "/v1/hosts")));
    expect(one!.map(({ id }) => id)).toEqual(other!.map(({ id }) => id));
    for (const host of one!) expect(rest.Host.parse(host)).toMatchObject({ status: "online", mode: "active" });
    expect(one![0]!.load.memory_mb_capacity).toBeGreaterThan(0);
  });

  test("sandboxes spread over the hosts, and either control plane acts on all of them", async () => {
    const made: rest.Capsule[] = [];
    for (let count = 0; count < 4; count++) made.push(await fleet.json<rest.Capsule>(0, "POST", "/v1/capsules", {}));
    const loads = (await fleet.json<rest.Host[]>(0, "GET", "/v1/hosts")).map(({ load }) => load.sandboxes);
    // Loads are read every second, so a few creates at once need not spread evenly; none is left out.
    expect(Math.min(...loads)).toBeGreaterThan(0);
    for (const [at, { id }] of made.entries()) {
      const paused = await fleet.json<rest.Capsule>(at + 1, "POST", `/v1/capsules/${id}/pause`);
      expect(paused.status).toBe("paused");
      await fleet.json(at, "DELETE", `/v1/capsules/${id}`);
    }
  });

  test("a zone chooses the host; one that no host is in is refused", async () => {
    const { id } = await fleet.json<rest.Capsule>(0, "POST", "/v1/capsules", { availability_zone: "zone-1" });
    const hosts = await fleet.json<rest.Host[]>(1, "GET", "/v1/hosts");
    expect(hosts.find(({ load }) => load.sandboxes === 1)?.availability_zone).toBe("zone-1");
    await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
    expect(await refusal(await fleet.fetch(0, "POST", "/v1/capsules", { availability_zone: "moon" }))).toEqual([
      400,
      "invalid_request",
    ]);
  });

  test("an agent answers nobody without a certificate of the control plane, and speaks TLS 1.3 only", async () => {
    const { address } = fleet.agents[0]!;
    expect(address).toStartWith("https://");
    const bare = fetch(`${address}/health`, { tls: { rejectUnauthorized: false } } as RequestInit);
    await expect(bare).rejects.toThrow();
    const { host } = new URL(address);
    const asked = Bun.spawn(["openssl", "s_client", "-connect", host, "-tls1_2"], {
      ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    });
    const [out, err] = await Promise.all([new Response(asked.stdout).text(), new Response(asked.stderr).text()]);
    expect(out + err).toMatch(/alert protocol version|Cipher is \(NONE\)|unsupported protocol/);
  });

  test("the identity is its user's alone, and a restart needs no flag, nor a token in its settings", async () => {
    for (const [at, agent] of fleet.agents.entries()) {
      const file = `${agent.env.WRENN_DIR}/host-token`;
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      await agent.stop();
      await agent.start(); // the token that the second one still has opens nothing any more
      const made = await fleet.json<rest.Capsule>(0, "POST", "/v1/capsules", { availability_zone: `zone-${at}` });
      await fleet.json(1, "DELETE", `/v1/capsules/${made.id}`);
    }
  });

  test("a registration token opens once; a made-up one, and another host's, open nothing", async () => {
    const { host, registration_token } = await fleet.json<rest.RegistrableHost>(0, "POST", "/v1/hosts", {});
    const join = (token: string, port: number) =>
      fleet.fetch(1, "POST", "/v1/hosts/register", { token, address: `127.0.0.1:${port}`, memory_mb: 1024 });
    expect(await refusal(await join("f".repeat(64), 1))).toEqual([401, "unauthorized"]);
    const again = await fleet.json<rest.RegistrableHost>(0, "POST", `/v1/hosts/${host.id}/token`);
    expect(await refusal(await join(registration_token, 1))).toEqual([401, "unauthorized"]); // replaced
    const answers = await Promise.all([1, 2, 3].map((port) => join(again.registration_token, port)));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 401, 401]);
    const identity = rest.HostIdentity.parse(await answers.find(({ status }) => status === 201)!.json());
    const beat = (id: string, token: string) =>
      fleet.fetch(0, "POST", `/v1/hosts/${id}/heartbeat`, undefined, { "x-host-token": token });
    expect((await beat(host.id, identity.token)).status).toBe(204);
    expect(await refusal(await beat(fleet.hosts[0]!, identity.token))).toEqual([403, "forbidden"]);
    expect(await refusal(await beat(host.id, "wha_no"))).toEqual([401, "unauthorized"]);

    const renew = (token: string) => fleet.fetch(0, "POST", "/v1/hosts/auth/refresh", { refresh_token: token });
    const next = rest.HostIdentity.parse(await (await renew(identity.refresh_token)).json());
    expect(next.cert_pem).not.toBe(identity.cert_pem);
    expect(await refusal(await renew(identity.refresh_token))).toEqual([401, "unauthorized"]); // used up
    expect((await beat(host.id, next.token)).status).toBe(204);
    await fleet.json(0, "DELETE", `/v1/hosts/${host.id}`);
    expect(await refusal(await beat(host.id, next.token))).toEqual([404, "not_found"]);
    expect(await refusal(await renew(next.refresh_token))).toEqual([401, "unauthorized"]);
  });

  test("an address is one host's", async () => {
    const { host, registration_token: token } = await fleet.json<rest.RegistrableHost>(0, "POST", "/v1/hosts", {});
    const { address } = await fleet.json<rest.Host>(0, "GET", `/v1/hosts/${fleet.hosts[1]}`);
    expect(await refusal(await fleet.fetch(0, "POST", "/v1/hosts/register", { token, address }))).toEqual([
      409,
      "conflict",
    ]);
    await fleet.json(0, "DELETE", `/v1/hosts/${host.id}`);
  });

  test("a machine that shows another host's certificate is sent nothing", async () => {
    const join = async (address: string) => {
      const { registration_token: token } = await fleet.json<rest.RegistrableHost>(0, "POST", "/v1/hosts", {});
      return await fleet.json<rest.HostIdentity>(0, "POST", "/v1/hosts/register", { token, address });
    };
    const address = `127.0.0.1:${await freePort()}`;
    const [thief, own] = [await join(`127.0.0.1:${await freePort()}`), await join(address)];
    const heard = async ({ cert_pem: cert, key_pem: key, ca_cert_pem: ca }: rest.HostIdentity) => {
      const { promise, resolve } = Promise.withResolvers<string>();
      const server = Bun.serve({
        ...{ port: Number(address.split(":")[1]), hostname: "127.0.0.1" },
        tls: { cert, key, ca, requestCert: true, rejectUnauthorized: true },
        fetch: () => {
          resolve("asked");
          return new Response(null, { status: 503 });
        },
      });
      const outcome = await Promise.race([promise, Bun.sleep(2_500).then(() => "silence")]);
      await server.stop(true);
      return outcome;
    };
    expect(await heard(thief)).toBe("silence");
    expect(await heard(own)).toBe("asked");
    for (const { host } of [thief, own]) await fleet.json(0, "DELETE", `/v1/hosts/${host.id}`);
  });

  test("cordon, drain, uncordon: what runs is paused and can be resumed", async () => {
    const host = fleet.hosts[0]!;
    const made = await fleet.json<rest.Capsule>(0, "POST", "/v1/capsules", { availability_zone: "zone-0" });
    const drained = await fleet.json<rest.HostDrain>(1, "POST", `/v1/hosts/${host}/drain`);
    expect(drained).toMatchObject({ host: { status: "draining" }, running: 0, paused: [made.id], failed: {} });
    const elsewhere = await fleet.json<rest.Capsule>(0, "POST", "/v1/capsules", {});
    const loads = await fleet.json<rest.Host[]>(0, "GET", "/v1/hosts");
    expect(loads.find(({ id }) => id === host)!.load.sandboxes).toBe(0);
    await fleet.json(0, "POST", `/v1/hosts/${host}/uncordon`);
    expect((await fleet.json<rest.Capsule>(0, "POST", `/v1/capsules/${made.id}/resume`)).status).toBe("running");
    for (const { id } of [made, elsewhere]) await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  });

  test("tags are kept in order, once each", async () => {
    const path = `/v1/hosts/${fleet.hosts[0]}/tags`;
    for (const tag of ["gpu", "big", "gpu"]) await fleet.json(0, "POST", path, { tag });
    expect(await fleet.json<string[]>(1, "GET", path)).toEqual(["big", "gpu"]);
    await fleet.json(1, "DELETE", `${path}/gpu`);
    expect(await fleet.json<string[]>(0, "GET", path)).toEqual(["big"]);
  });

  test("a host with sandboxes is deleted by force only; they end, and its agent stops", async () => {
    const made = await fleet.json<rest.Capsule>(0, "POST", "/v1/capsules", { availability_zone: "zone-1" });
    const host = fleet.hosts[1]!;
    const preview = await fleet.json<rest.HostDeletion>(1, "GET", `/v1/hosts/${host}/delete-preview`);
    expect(preview.sandbox_ids).toEqual([made.id]);
    const refused = await fleet.fetch(0, "DELETE", `/v1/hosts/${host}`);
    expect(refused.status).toBe(409);
    expect(((await refused.json()) as Refused).error).toMatchObject({
      ...{ code: "has_active_sandboxes", sandbox_ids: [made.id], remedy: expect.any(String) },
    });
    await fleet.json(0, "DELETE", `/v1/hosts/${host}?force=true`);
    expect((await fleet.json<rest.Capsule>(1, "GET", `/v1/capsules/${made.id}`)).status).toBe("stopped");
    expect((await fleet.fetch(0, "GET", `/v1/hosts/${host}`)).status).toBe(404);
    await fleet.agents[1]!.stop();
  });

  test("an agent that dials has no port that anybody reaches, and each control plane a line to it", async () => {
    await using balancer = await Balancer.start(fleet.planes.map(({ address }) => address));
    const wanted = { type: "regular", availability_zone: "nat" };
    const { host, registration_token } = await fleet.json<rest.RegistrableHost>(0, "POST", "/v1/hosts", wanted);
    const env = { WRENN_DIR: fleet.folder("dials"), WRENN_CP_URL: balancer.address, LOG_LEVEL: "silent" };
    const agent = new Part("an agent that dials", [new URL("agent.ts", import.meta.url).pathname], env);
    fleet.agents.push(agent); // ended with the others
    await agent.start("--register", registration_token, "--dial");
    expect(new URL(agent.address).hostname).toBe("127.0.0.1");
    let made = await fleet.fetch(0, "POST", "/v1/capsules", { availability_zone: "nat" });
    while (!made.ok) {
      await Bun.sleep(50); // the line is not there yet
      made = await fleet.fetch(0, "POST", "/v1/capsules", { availability_zone: "nat" });
    }
    const { id } = (await made.json()) as rest.Capsule;
    /** Asks a control plane until the sandbox is as it should be: it may have to wait for its line. */
    const reach = async (plane: number, word: string, status: string) => {
      for (;;) {
        await fleet.fetch(plane, "POST", `/v1/capsules/${id}/${word}`);
        if ((await fleet.json<rest.Capsule>(plane, "GET", `/v1/capsules/${id}`)).status === status) return;
        await Bun.sleep(50);
      }
    };
    const shown = await fleet.json<rest.Host>(1, "GET", `/v1/hosts/${host.id}`);
    expect([shown.dials, shown.address]).toEqual([true, undefined]);
    await reach(1, "pause", "paused");
    await fleet.planes[0]!.kill();
    await reach(1, "resume", "running");
    await fleet.planes[0]!.start();
    await reach(0, "pause", "paused"); // by a line that came back by itself

    const headers = (token: string) => ({ "x-host-token": token, upgrade: "websocket" });
    const path = `/v1/hosts/${host.id}/tunnel`;
    expect(await refusal(await fleet.fetch(0, "GET", path, undefined, headers("wha_no")))).toEqual([
      401,
      "unauthorized",
    ]);
    await fleet.json(1, "DELETE", `/v1/hosts/${host.id}?force=true`);
    await agent.stop();
  }, 180_000);

  test("wrenn-agent refuses flags that do not fit, with the remedy", async () => {
    const run = async (env: Record<string, string>, ...args: string[]) => {
      const main = new URL("../../packages/host/src/main.ts", import.meta.url).pathname;
      const child = Bun.spawn([process.execPath, main, ...args], {
        env: { PATH: process.env.PATH!, WRENN_DIR: "/nonexistent/never", ...env },
        ...{ stdout: "ignore", stderr: "pipe" },
      });
      return [await child.exited, await new Response(child.stderr).text()] as const;
    };
    const [code, text] = await run({ WRENN_CP_URL: "http://h:1" }, "--register", "t");
    expect([code, text]).toEqual([2, expect.stringContaining("--address HOST:PORT")]);
    expect((await run({}, "--register", "t", "--address", "h:1"))[1]).toContain("WRENN_CP_URL");
    expect((await run({}, "--register", "t", "--address", "h:1", "--dial"))[1]).toContain("exclude each other");
  });
});
