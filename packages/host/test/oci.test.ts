import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WrennError } from "@wrenn/contract";
import { keepInLayout } from "../src/oci/layout.ts";
import { manifestIn, ownDocument, pullConfig, pullInto } from "../src/oci/pull.ts";
import { Reach } from "../src/oci/reach.ts";
import { readReference } from "../src/oci/reference.ts";
import { Repository } from "../src/oci/registry.ts";

const digestOf = (bytes: Uint8Array | string) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const layer = randomBytes(300_000);
const config = Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", config: {} }));
const manifest = JSON.stringify({
  schemaVersion: 2,
  config: {
    mediaType: "application/vnd.docker.container.image.v1+json",
    digest: digestOf(config),
    size: config.length,
  },
  layers: [
    { mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", digest: digestOf(layer), size: layer.length },
  ],
});
const index = JSON.stringify({
  schemaVersion: 2,
  manifests: [
    { digest: digestOf("another"), size: 7, platform: { os: "linux", architecture: "s390x" } },
    { digest: digestOf(manifest), size: manifest.length, platform: { os: "linux", architecture: "amd64" } },
  ],
});

/** How the registry behaves for the next requests. */
const mood = { breaksAfter: 0, ranges: true, damages: false, wantsToken: false, redirect: "" };
const asked: string[] = [];
let server: Bun.Server<undefined>;
let address: string;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-oci-"));
  server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
  address = `127.0.0.1:${server.port}`;
});
afterAll(async () => {
  await server.stop(true);
  await rm(dir, { recursive: true });
});

function answer(request: Request): Response {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname === "/token")
    return Response.json({ token: `t-${searchParams.get("scope")}-${request.headers.get("authorization")}` });
  if (
    mood.wantsToken &&
    !request.headers.get("authorization")?.startsWith("Bearer t-repository:test/app:pull-Basic ")
  ) {
    const challenge = `Bearer realm="http://${address}/token",service="s",scope="repository:test/app:pull"`;
    return new Response(null, { status: 401, headers: { "www-authenticate": challenge } });
  }
  const name = pathname.split("/").at(-1)!;
  asked.push(`${name.slice(0, 10)} ${request.headers.get("range") ?? ""}`);
  if (mood.redirect && name.startsWith("sha256")) return Response.redirect(mood.redirect, 307);
  if (name === "latest") return new Response(index);
  if (name === digestOf(manifest)) return new Response(manifest);
  if (name === digestOf(config)) return new Response(config);
  if (name === digestOf(layer)) return blob(request);
  return new Response(null, { status: 404 });
}

/** The layer; cut short where the mood says so. */
function blob(request: Request): Response {
  const from = mood.ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1] ?? 0) : 0;
  const bytes = mood.damages ? Buffer.alloc(layer.length) : layer;
  const status = from > 0 ? 206 : 200;
  if (mood.breaksAfter === 0) return new Response(bytes.subarray(from), { status });
  const end = Math.min(from + mood.breaksAfter, bytes.length);
  const cut = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes.subarray(from, end));
      if (end === bytes.length) controller.close();
    },
    async pull(controller) {
      await Bun.sleep(20); // what was sent is to arrive before the answer ends, too early
      controller.close();
    },
  });
  return new Response(cut, { status });
}

async function pull(store: string, { allowed = [address], credentials = undefined as Repository["credentials"] } = {}) {
  const repository = new Repository(new Reach(allowed), readReference(`${address}/test/app`), credentials);
  const top = await repository.document("latest");
  const document = await ownDocument(repository, top);
  const told: string[] = [];
  const manifest = manifestIn(document);
  await pullConfig(store, repository, manifest);
  await pullInto(store, { repository, manifest, tag: "tag" }, 1_000_000, (text) => void told.push(text));
  return told;
}

const failing = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (thrown) => thrown as WrennError,
  );

describe("pulling an image", () => {
  test("takes this machine's architecture from an index, and writes an OCI layout", async () => {
    const store = join(dir, "plain");
    expect(await pull(store)).toEqual(["pulling layer 1 of 1, 0.3 MiB"]);
    const { manifests } = JSON.parse(await readFile(join(store, "index.json"), "utf8"));
    expect(manifests[0].annotations).toEqual({ "org.opencontainers.image.ref.name": "tag" });
    const written = JSON.parse(await readFile(join(store, "blobs/sha256", manifests[0].digest.slice(7)), "utf8"));
    expect(written.layers[0].mediaType).toBe("application/vnd.oci.image.layer.v1.tar+gzip");
    expect(Buffer.compare(await readFile(join(store, "blobs/sha256", digestOf(layer).slice(7))), layer)).toBe(0);
    asked.length = 0;
    await pull(store);
    expect(asked.filter((one) => one.startsWith(digestOf(layer).slice(0, 10)))).toEqual([]);
  });

  test("leaves layers for as long as an image has them, or a download is under way", async () => {
    const store = join(dir, "kept");
    await pull(store);
    const blobs = () => readdir(join(store, "blobs/sha256"));
    const all = await blobs();
    const partial = `${digestOf("other").slice(7)}.partial`;
    await Bun.write(join(store, "blobs/sha256", partial), "half of a layer");
    const [past, future] = [Date.now() - 60_000, Date.now() + 60_000];
    expect(await keepInLayout(store, new Set(), past)).toBe(0);
    asked.length = 0;
    await pull(store); // the name is gone, its pieces are not
    expect(asked.filter((one) => one.startsWith(digestOf(layer).slice(0, 10)))).toEqual([]);
    expect(await keepInLayout(store, new Set(["tag"]), future)).toBeGreaterThan(0);
    expect((await blobs()).sort()).toEqual(all.sort());
    expect(await keepInLayout(store, new Set(), future)).toBeGreaterThan(layer.length - 1);
    expect(await blobs()).toEqual([]);
  });

  test("goes on where a registry broke off, and from the begin where it cannot", async () => {
    Object.assign(mood, { breaksAfter: 120_000 });
    asked.length = 0;
    await pull(join(dir, "cut"));
    const name = digestOf(layer).slice(0, 10);
    expect(asked.filter((one) => one.startsWith(name)).length).toBeGreaterThan(1);
    expect(asked.some((one) => /bytes=[1-9]/.test(one))).toBe(true);
    Object.assign(mood, { breaksAfter: 0, ranges: false });
    await pull(join(dir, "whole"));
    Object.assign(mood, { ranges: true });
  }, 30_000);

  test("refuses a layer that is not what its digest says, and keeps nothing of it", async () => {
    mood.damages = true;
    const store = join(dir, "damaged");
    const error = await failing(pull(store));
    mood.damages = false;
    expect([error?.code, error?.message]).toEqual(["invalid_request", expect.stringContaining("is not sha256:")]);
    expect(
      (await readdir(join(store, "blobs/sha256"))).some((file) => digestOf(layer).endsWith(file.slice(0, 64))),
    ).toBe(false);
  });

  test("refuses an image whose layers are too large before it asks for one", async () => {
    const repository = new Repository(new Reach([address]), readReference(`${address}/test/app`), undefined);
    const own = manifestIn(await repository.document(digestOf(manifest)));
    const large = { repository, manifest: own, tag: "x" };
    const error = await failing(pullInto(join(dir, "large"), large, 1_000, () => {}));
    expect(error?.code).toBe("too_large");
  });

  test("shows its credentials to whom the registry names, and the token to the registry", async () => {
    mood.wantsToken = true;
    await pull(join(dir, "private"), { credentials: { username: "ann", password: "secret" } });
    mood.wantsToken = false;
  });
});

describe("what an image's name leads to", () => {
  test("must not be inside the host's networks, unless the operator named it", async () => {
    const error = await failing(pull(join(dir, "inner"), { allowed: [] }));
    expect([error?.code, error?.message]).toEqual(["invalid_request", `${address} is inside this host's own networks`]);
    const names = ["10.0.0.1", "169.254.169.254", "[::1]", "localhost:5000"];
    for (const host of names) {
      const repository = new Repository(new Reach([]), readReference(`${host}/app`), undefined);
      expect((await failing(repository.document("latest")))?.message, host).toContain(
        "inside this host's own networks",
      );
    }
  });

  test("nor lead there by a redirect, nor give credentials away on the way", async () => {
    const seen: (string | null)[] = [];
    const other = Bun.serve({
      ...{ port: 0, hostname: "127.0.0.1" },
      fetch: (request) => {
        seen.push(request.headers.get("authorization"));
        return new Response(new URL(request.url).pathname.includes(digestOf(config)) ? config : layer);
      },
    });
    mood.redirect = `http://127.0.0.1:${other.port}/blobs`;
    expect((await failing(pull(join(dir, "redirected"))))?.message).toContain("inside this host's own networks");
    expect(seen).toEqual([]);
    mood.redirect = "";
    await other.stop(true);
  });

  test("is read as people write it, or refused", () => {
    const digest = digestOf("x");
    expect(readReference("python:3.12-slim")).toEqual({
      host: "registry-1.docker.io",
      repository: "library/python",
      version: "3.12-slim",
    });
    expect(readReference("org/app")).toMatchObject({
      host: "registry-1.docker.io",
      repository: "org/app",
      version: "latest",
    });
    expect(readReference(`ghcr.io/org/app:1@${digest}`)).toEqual({
      host: "ghcr.io",
      repository: "org/app",
      version: digest,
    });
    expect(readReference("localhost:5000/app")).toMatchObject({ host: "localhost:5000", repository: "app" });
    for (const bad of ["", "UPPER", "a b", "--all", "host/../x", "x:tag:tag", "http://host/x", "a@sha256:12"])
      expect(() => readReference(bad), bad).toThrow("no name of an image");
  });
});
