import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { type rest, WrennError } from "@wrenn/contract";
import { volumeRoute } from "../../src/volumes/routes.ts";
import { Volumes } from "../../src/volumes/volumes.ts";

let dir: string;
let volumes: Volumes;
let server: Bun.Server<undefined>;
beforeAll(() => {
  dir = mkdtempSync(`${tmpdir()}/wrenn-volumes-`);
  volumes = new Volumes(`${dir}/volumes`);
  server = Bun.serve({
    ...{ port: 0, hostname: "127.0.0.1", maxRequestBodySize: Number.MAX_SAFE_INTEGER },
    fetch: (request) =>
      volumeRoute(request, volumes).catch((thrown) => {
        const error = WrennError.from(thrown);
        return Response.json(error, { status: error.status });
      }),
  });
});
afterAll(async () => {
  await server.stop(true);
  rmSync(dir, { recursive: true, force: true });
});

const ask = (method: string, path: string, init: RequestInit = {}) => fetch(server.url + path, { method, ...init });
const made = async (id: string) => expect((await ask("PUT", `volumes/${id}`)).status).toBe(204);

test("a volume is made once, used and removed with all it holds; nobody else enters the folder", async () => {
  await made("vol_a");
  const wrote = await ask("PUT", "volumes/vol_a/file?path=/x/y&mode=416", { body: "text" });
  expect([wrote.status, await wrote.json()]).toMatchObject([201, { path: "/x/y", size: 4, mode: 0o640 }]);
  await made("vol_a");
  expect(await (await ask("GET", "volumes/vol_a/file?path=x/y")).text()).toBe("text");
  const list = (await (await ask("GET", "volumes/vol_a/dir?path=/&depth=2")).json()) as rest.e2b.VolumeEntry[];
  expect(list.map(({ path }) => path)).toEqual(["/x", "/x/y"]);
  const patch = await ask("PATCH", "volumes/vol_a/path?path=x/y", { body: JSON.stringify({ mode: 0o600 }) });
  expect(await patch.json()).toMatchObject({ mode: 0o600 });
  expect((await ask("POST", "volumes/vol_a/dir?path=z")).status).toBe(201);
  expect((await ask("DELETE", "volumes/vol_a/path?path=x")).status).toBe(204);
  expect((await ask("GET", "volumes/vol_a/path?path=x")).status).toBe(404);
  expect(statSync(volumes.root).mode & 0o777).toBe(0o700);
  expect((await ask("DELETE", "volumes/vol_a")).status).toBe(204);
  expect([existsSync(`${volumes.root}/vol_a`), (await ask("GET", "volumes/vol_a/dir")).status]).toEqual([false, 404]);
  expect((await ask("DELETE", "volumes/vol_a")).status).toBe(204);
});

test("a large file goes up and down whole, and one that breaks off is not there", async () => {
  await made("vol_b");
  const [pieces, piece] = [128, new Uint8Array(256 * 1024).fill(7)];
  async function* body() {
    for (let i = 0; i < pieces; i++) yield piece;
  }
  const up = await ask("PUT", "volumes/vol_b/file?path=big", { body: body() as unknown as BodyInit });
  expect(await up.json()).toMatchObject({ size: pieces * piece.length });
  let got = 0;
  for await (const bytes of (await ask("GET", "volumes/vol_b/file?path=big")).body!) got += bytes.length;
  expect(got).toBe(pieces * piece.length);
  const abort = new AbortController();
  async function* broken() {
    yield piece;
    abort.abort();
    yield piece;
  }
  const cut = ask("PUT", "volumes/vol_b/file?path=cut", {
    body: broken() as unknown as BodyInit,
    signal: abort.signal,
  });
  await expect(cut).rejects.toThrow();
  for (let left = 100; left > 0 && readdirSync(`${volumes.root}/vol_b`).length > 1; left--) await Bun.sleep(50);
  expect(readdirSync(`${volumes.root}/vol_b`)).toEqual(["big"]);
});

for (const path of ["volumes/..%2f..", "volumes/vol_a%2f..%2f..", "volumes/x", "volumes/VOL_A", "volumes/vol_"])
  test(`PUT ${path} makes nothing`, async () => {
    expect((await ask("PUT", path)).status).toBeGreaterThanOrEqual(400);
  });

for (const query of ["depth=0", "depth=x", "uid=-1", "mode=77777", "force=maybe"])
  test(`the query ${query} is refused`, async () => {
    await made("vol_c");
    expect((await ask("POST", `volumes/vol_c/dir?path=a&${query}`)).status).toBe(400);
  });

test("what a killed agent was removing is removed by the next", async () => {
  mkdirSync(`${volumes.root}/.going-x/deep`, { recursive: true });
  await volumes.heal();
  expect(readdirSync(volumes.root).filter((name) => name.startsWith("."))).toEqual([]);
});
