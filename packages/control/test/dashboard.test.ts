import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, brotliDecompressSync, gzipSync } from "node:zlib";
import { readDashboard } from "../src/edges/dashboard/files.ts";
import { dashboard } from "../src/edges/dashboard/index.ts";
import { newApp } from "../src/edges/endpoint.ts";

const html = "<!doctype html><title>Wrenn</title>";
const script = "/_app/immutable/boot.1.js";
const browser = { accept: "text/html,application/xhtml+xml", "accept-encoding": "gzip, deflate, br" };

let dir: string;
let app: ReturnType<typeof newApp>;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-dashboard-"));
  await mkdir(join(dir, "_app/immutable"), { recursive: true });
  await writeFile(join(dir, "index.html"), html);
  await writeFile(join(dir, script), "start()");
  await writeFile(join(dir, `${script}.br`), brotliCompressSync("start()"));
  await writeFile(join(dir, `${script}.gz`), gzipSync("start()"));
  await writeFile(join(dir, "favicon.svg"), "<svg/>");
  await writeFile(join(dir, "pages.json"), JSON.stringify(["sandboxes", "sign-in"]));
  app = newApp();
  app.use(dashboard(await readDashboard(dir)));
  app.get("/sandboxes", (c) => c.json(["the API's answer"]));
});
afterAll(() => rm(dir, { recursive: true }));

const get = (path: string, headers: Record<string, string> = browser, method = "GET") =>
  app.request(path, { method, headers });

test("a browser gets the page at every address that is one of the dashboard's", async () => {
  for (const path of ["/", "/sandboxes", "/sandboxes/cl-1/files", "/sign-in?to=%2F"])
    expect(await (await get(path)).text()).toBe(html);
});

test("a program that asks for the same address gets the API", async () => {
  expect(await (await get("/sandboxes", { accept: "application/json" })).json()).toEqual(["the API's answer"]);
  expect(await (await get("/sandboxes", {})).json()).toEqual(["the API's answer"]);
});

test("other addresses, and other methods, are not the dashboard's", async () => {
  for (const path of ["/v1/capsules", "/docs", "/_app/immutable/gone.js", "/../pages.json", "/pages.json"])
    expect((await get(path)).status).toBe(404);
  expect((await get("/", browser, "POST")).status).toBe(404);
});

test("the page runs no script of its own and nothing from elsewhere, and may not be framed", async () => {
  const policy = (await get("/")).headers.get("content-security-policy")!;
  expect(policy).toContain("default-src 'none'; script-src 'self';");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(/script-src ([^;]*)/.exec(policy)![1]).toBe("'self'");
});

test("a file is sent compressed to who can read that, and kept for good when its name changes with it", async () => {
  const packed = await get(script);
  expect(packed.headers.get("content-encoding")).toBe("br");
  expect(brotliDecompressSync(await packed.arrayBuffer()).toString()).toBe("start()");
  expect(packed.headers.get("cache-control")).toContain("immutable");
  expect((await get(script, { "accept-encoding": "gzip" })).headers.get("content-encoding")).toBe("gzip");
  const plain = await get(script, {});
  expect([plain.headers.get("content-encoding"), await plain.text()]).toEqual([null, "start()"]);
});

test("the page and files with fixed names are asked for again, and cost nothing when they are the same", async () => {
  for (const path of ["/", "/favicon.svg"]) {
    const first = await get(path);
    expect(first.headers.get("cache-control")).toBe("no-cache");
    const again = await get(path, { ...browser, "if-none-match": first.headers.get("etag")! });
    expect([again.status, await again.text()]).toEqual([304, ""]);
  }
});

test("a server without a built dashboard says how to make one", async () => {
  const bare = newApp();
  bare.use(dashboard(await readDashboard(join(dir, "nowhere"))));
  const answer = await bare.request("/", { headers: browser });
  expect([answer.status, await answer.text()]).toEqual([404, expect.stringContaining("make build")]);
});
