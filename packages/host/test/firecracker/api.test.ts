import { afterEach, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { FirecrackerApi } from "../../src/drivers/firecracker/api.ts";
import { probe } from "../../src/probe.ts";

const socket = `${tmpdir()}/wrenn-fc-${process.pid}.sock`;
let server: Bun.Server<undefined> | undefined;

afterEach(async () => {
  await server?.stop(true);
  await rm(socket, { force: true });
});

const serve = (fetch: (request: Request) => Response | Promise<Response>) => {
  server = Bun.serve({ unix: socket, fetch });
};

test("what is sent is the method, path and body that Firecracker's description names", async () => {
  const seen: unknown[] = [];
  serve(async (request) => {
    seen.push([request.method, new URL(request.url).pathname, await request.json()]);
    return new Response(null, { status: 204 });
  });
  const api = new FirecrackerApi(socket);
  await api.put("/actions", { action_type: "InstanceStart" });
  await api.patch("/vm", { state: "Paused" });
  expect(seen).toEqual([
    ["PUT", "/actions", { action_type: "InstanceStart" }],
    ["PATCH", "/vm", { state: "Paused" }],
  ]);
});

test("a refusal is an error of the agent with Firecracker's own words", async () => {
  serve(() => Response.json({ fault_message: "Load snapshot error: no such file" }, { status: 400 }));
  const thrown = await new FirecrackerApi(socket).info().catch((error) => error);
  expect(thrown).toMatchObject({ code: "agent_error" });
  expect(thrown.message).toContain("Load snapshot error: no such file");
});

test("a socket that nobody serves yet is waited for, as long as the process lives", async () => {
  const waiting = new FirecrackerApi(socket).ready(() => true);
  await Bun.sleep(30);
  serve(() => Response.json({ id: "a", state: "Not started", vmm_version: "1.16.1" }));
  expect((await waiting).vmm_version).toBe("1.16.1");
  await server!.stop(true);
  await expect(new FirecrackerApi(socket).ready(() => false)).rejects.toMatchObject({ code: "agent_error" });
});

test("a machine without Firecracker lacks nothing that it is told to remedy, unless Firecracker was asked for", async () => {
  const asked = { dir: tmpdir(), accelerator: "tcg", network: undefined, isUnjailed: true } as const;
  const of = async (vmm: "firecracker" | undefined) =>
    (await probe({ ...asked, vmm })).probes.filter(({ name }) =>
      ["firecracker", "device mapper", "taps"].includes(name),
    );
  for (const { ok, remedy } of await of(undefined)) expect(ok || remedy === undefined).toBe(true);
  for (const { ok, remedy } of await of("firecracker")) expect(ok || remedy !== undefined).toBe(true);
});
