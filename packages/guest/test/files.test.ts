import { describe, expect, test } from "bun:test";
import { chmodSync, linkSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { until, useAgent } from "./support/agent.ts";

const agent = useAgent();
const at = (name: string) => join(agent.folder, name);
const url = (path: string, more: Record<string, string> = {}) =>
  `${agent.url}/files?${new URLSearchParams({ path, ...more })}`;
const put = (path: string, body: BodyInit, headers: Record<string, string> = {}) =>
  fetch(url(path), { method: "POST", body, headers: { "Content-Type": "application/octet-stream", ...headers } });
const get = (path: string, headers: Record<string, string> = { "Accept-Encoding": "identity" }) =>
  fetch(url(path), { headers });
const random = (bytes: number) => {
  const buffer = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i += 65_536) crypto.getRandomValues(buffer.subarray(i, Math.min(bytes, i + 65_536)));
  return buffer;
};
const leftovers = (folder: string) => readdirSync(folder).filter((name) => name.startsWith(".wrenn-upload"));

describe("upload", () => {
  test("raw bytes are written, parents made, and exactly path, name and type answered", async () => {
    const bytes = random(3_000_000);
    const answer = await put(at("new/deep/file.bin"), bytes);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual([{ path: at("new/deep/file.bin"), name: "file.bin", type: "file" }]);
    expect(Buffer.from(await Bun.file(at("new/deep/file.bin")).arrayBuffer()).equals(bytes)).toBe(true);
    expect(statSync(at("new/deep/file.bin")).mode & 0o777).toBe(0o644);
    expect(statSync(at("new/deep")).mode & 0o777).toBe(0o755);
  });

  test("an empty file can be written and read", async () => {
    expect((await put(at("empty"), "")).status).toBe(200);
    const answer = await get(at("empty"));
    expect(answer.headers.get("content-length")).toBe("0");
    expect(await answer.text()).toBe("");
  });

  test("a form writes each of its files under its own full name", async () => {
    const form = new FormData();
    form.append("other", "ignored");
    form.append("file", new File(["one"], at("form/a.txt")));
    form.append("file", new File([random(200_000)], at('form/b ü "q".bin')));
    const answer = await fetch(`${agent.url}/files`, { method: "POST", body: form });
    expect(((await answer.json()) as { name: string }[]).map(({ name }) => name)).toEqual(["a.txt", 'b ü "q".bin']);
    expect(await Bun.file(at("form/a.txt")).text()).toBe("one");
  });

  test("gzip is unpacked, and what is not gzip is refused and leaves nothing", async () => {
    const gzip = { "Content-Encoding": "gzip" };
    expect((await put(at("unpacked"), gzipSync("plain text"), gzip)).status).toBe(200);
    expect(await Bun.file(at("unpacked")).text()).toBe("plain text");
    expect((await put(at("never"), "no gzip", gzip)).status).toBe(400);
    expect(await Bun.file(at("never")).exists()).toBe(false);
    expect(leftovers(agent.folder)).toEqual([]);
  });

  test("replacing keeps the mode, follows links and keeps hard links together", async () => {
    writeFileSync(at("script"), "old");
    chmodSync(at("script"), 0o750);
    symlinkSync(at("script"), at("link"));
    await put(at("link"), "new");
    expect(await Bun.file(at("script")).text()).toBe("new");
    expect(statSync(at("script")).mode & 0o777).toBe(0o750);
    linkSync(at("script"), at("twin"));
    await put(at("script"), "newer");
    expect(await Bun.file(at("twin")).text()).toBe("newer");
  });

  test("a client that goes away leaves the old file whole and nothing beside it", async () => {
    mkdirSync(at("broken"));
    writeFileSync(at("broken/file"), "old");
    const request = `POST /files?path=${at("broken/file")} HTTP/1.1\r\nContent-Type: application/octet-stream`;
    const head = `${request}\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n`;
    const { hostname, port } = new URL(agent.url);
    const upload = await Bun.connect({ hostname, port: Number(port), socket: { data() {} } });
    upload.write(head);
    upload.write(new Uint8Array(100_000));
    await until(() => leftovers(at("broken")).length === 1);
    upload.terminate();
    await until(() => leftovers(at("broken")).length === 0);
    expect(await Bun.file(at("broken/file")).text()).toBe("old");
  });

  test.each([
    ["a directory", () => put(agent.folder, "x"), 400],
    ["a path below a file", () => put("/etc/passwd/x", "x"), 400],
    ["no path", () => put("", "x"), 400],
    ["a NUL in the path", () => put("/tmp/a\0b", "x"), 400],
    ["another content type", () => put(at("x"), "x", { "Content-Type": "text/plain" }), 400],
    ["another encoding", () => put(at("x"), "x", { "Content-Encoding": "br" }), 400],
    ["an unknown user", () => fetch(url(at("x"), { username: "nobody-here" }), { method: "POST", body: "x" }), 401],
    ["a name that is too long", () => put(at("n".repeat(300)), "x"), 400],
  ])("%s is refused and changes nothing", async (_title, send, status) => {
    const answer = await send();
    expect(answer.status).toBe(status);
    expect(await answer.json()).toEqual({ code: status, message: expect.any(String) });
    expect(await Bun.file(at("x")).exists()).toBe(false);
  });

  test("metadata is stored with the file, replaced by the next upload, and limited", async () => {
    const answer = await put(at("meta"), "x", { "X-Metadata-Author": "me", "X-Metadata-n": "1" });
    expect(await answer.json()).toMatchObject([{ metadata: { author: "me", n: "1" } }]);
    const stat = async () => (await agent.files().stat({ path: at("meta") })).entry?.metadata;
    expect(await stat()).toEqual({ author: "me", n: "1" });
    await put(at("meta"), "y");
    expect(await stat()).toEqual({});
    expect((await put(at("meta"), "z", { "X-Metadata-big": "v".repeat(5000) })).status).toBe(400);
    expect(await Bun.file(at("meta")).text()).toBe("y");
  });
});

describe("download", () => {
  test("a whole file, with its length and name", async () => {
    const bytes = random(1_000_000);
    writeFileSync(at("down ü.bin"), bytes);
    const answer = await get(at("down ü.bin"));
    expect(answer.headers.get("content-length")).toBe("1000000");
    expect(answer.headers.get("content-disposition")).toBe(
      `inline; filename="down _.bin"; filename*=UTF-8''down%20%C3%BC.bin`,
    );
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
  });

  test("gzip where the client asks for it", async () => {
    writeFileSync(at("text"), "hello ".repeat(10_000));
    const answer = await fetch(url(at("text")), { headers: { "Accept-Encoding": "gzip" }, decompress: false });
    expect(answer.headers.get("content-encoding")).toBe("gzip");
    expect(gunzipSync(await answer.arrayBuffer()).toString()).toBe("hello ".repeat(10_000));
    expect((await get(at("text"), { "Accept-Encoding": "identity;q=0, br" })).status).toBe(406);
  });

  test("what would not get smaller is sent as it is, unless the client refuses that", async () => {
    const bytes = random(300_000);
    writeFileSync(at("noise"), bytes);
    const answer = (accept: string) =>
      fetch(url(at("noise")), { headers: { "Accept-Encoding": accept }, decompress: false });
    const plain = await answer("gzip, deflate");
    expect([plain.headers.get("content-encoding"), plain.headers.get("content-length")]).toEqual([null, "300000"]);
    const packed = await answer("gzip, identity;q=0");
    expect(packed.headers.get("content-encoding")).toBe("gzip");
    expect(Buffer.from(gunzipSync(await packed.arrayBuffer())).equals(bytes)).toBe(true);
  });

  test.each([
    ["bytes=0-4", 206, "01234", "bytes 0-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-2", 206, "89", "bytes 8-9/10"],
    ["bytes=5-99", 206, "56789", "bytes 5-9/10"],
    ["bytes=10-", 416, "", "bytes */10"],
    ["bytes=-0", 416, "", "bytes */10"],
    ["bytes=4-2", 200, "0123456789", null],
    ["bytes=0-1,3-4", 200, "0123456789", null],
    ["lines=1-2", 200, "0123456789", null],
  ])("range %s", async (range, status, body, contentRange) => {
    writeFileSync(at("digits"), "0123456789");
    const answer = await get(at("digits"), { Range: range, "Accept-Encoding": "gzip, identity" });
    expect(answer.status).toBe(status);
    if (status !== 200) expect(await answer.text()).toBe(body);
    expect(answer.headers.get("content-range")).toBe(contentRange);
  });

  test.each([
    ["a directory", () => get("/tmp"), 400],
    ["nothing", () => get("/no/such/file"), 404],
    ["a device", () => get("/dev/zero"), 400],
    ["an unknown user", () => fetch(url("/etc/passwd", { username: "nobody-here" })), 401],
  ])("%s is refused", async (_title, send, status) => {
    const answer = await send();
    expect(answer.status).toBe(status);
    expect(((await answer.json()) as { code: number }).code).toBe(status);
  });

  test("a kernel file without a size is read whole", async () => {
    expect(await (await get("/proc/self/status")).text()).toContain("VmRSS");
  });

  test("names with spaces, line breaks and UTF-8 go both ways", async () => {
    const name = at(" a\nb ü %41?&#.txt");
    expect((await put(name, "x")).status).toBe(200);
    expect(await (await get(name)).text()).toBe("x");
    expect((await agent.files().stat({ path: name })).entry?.path).toBe(name);
  });

  test("~ and relative paths start at the home directory", async () => {
    const paths = ["~/no-such-file", "no-such-file"].map((path) => agent.files().stat({ path }).catch(String));
    const [home, relative] = await Promise.all(paths);
    expect(home).toMatch(/path '\/.*\/no-such-file' does not exist/);
    expect(relative).toBe(home!);
  });
});

describe("compose", () => {
  const compose = (body: object) => fetch(`${agent.url}/files/compose`, { method: "POST", body: JSON.stringify(body) });

  test("joins the sources in order, and removes them", async () => {
    const [a, b] = [random(300_000), random(5)];
    writeFileSync(at("part1"), a);
    writeFileSync(at("part2"), b);
    const answer = await compose({ source_paths: [at("part1"), at("part2")], destination: at("joined/whole") });
    expect(await answer.json()).toEqual({ path: at("joined/whole"), name: "whole", type: "file" });
    expect(Buffer.from(await Bun.file(at("joined/whole")).arrayBuffer()).equals(Buffer.concat([a, b]))).toBe(true);
    expect([await Bun.file(at("part1")).exists(), await Bun.file(at("part2")).exists()]).toEqual([false, false]);
  });

  test("a missing source fails and changes nothing", async () => {
    writeFileSync(at("kept"), "kept");
    expect((await compose({ source_paths: [at("kept"), at("gone")], destination: at("never") })).status).toBe(404);
    expect(await Bun.file(at("kept")).text()).toBe("kept");
    expect(await Bun.file(at("never")).exists()).toBe(false);
    expect((await compose({ source_paths: [], destination: at("never") })).status).toBe(400);
  });
});
