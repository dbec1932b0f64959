import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { exists, stat } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { headers, type rest } from "@wrenn/contract";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
let id: string;
beforeAll(async () => {
  plane = await Plane.start();
  ({ id } = await plane.create());
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

const mib = 1024 * 1024;
const at = (name: string) => join(plane.guest.dir, name);
const url = (action: string) => `/v1/capsules/${id}/files/${action}`;

async function write(action: string, path: string | undefined, content: BlobPart, fileFirst = false) {
  const form = new FormData();
  if (!fileFirst && path !== undefined) form.set("path", path);
  form.set("file", new Blob([content]), "any name");
  if (fileFirst && path !== undefined) form.set("path", path);
  const answer = await fetch(plane.address + url(action), {
    method: "POST",
    headers: { [headers.apiKey]: apiKey },
    body: form,
  });
  return { status: answer.status, text: await answer.text() };
}

for (const [writeAs, readAs] of [
  ["write", "read"],
  ["stream/write", "stream/read"],
] as const)
  describe(`${writeAs} and ${readAs}`, () => {
    test("bring back the same bytes, with parents made, for empty and large files", async () => {
      for (const size of [0, 1, 70_000, 9 * mib]) {
        const bytes = crypto.getRandomValues(new Uint8Array(Math.min(size, 65_536)));
        const content = new Uint8Array(size).map((_, index) => bytes[index % bytes.length]!);
        const path = at(`${writeAs}/deep/${size}`);
        expect((await write(writeAs, path, content)).status).toBe(204);
        const got = await plane.fetch("POST", url(readAs), { path });
        expect([got.status, got.headers.get("content-type")]).toEqual([200, "application/octet-stream"]);
        expect(Bun.hash(await got.arrayBuffer())).toBe(Bun.hash(content));
      }
    });

    test("a missing file is 404, a directory 400", async () => {
      expect(await plane.refusal("POST", url(readAs), { path: at("missing") })).toEqual({
        status: 404,
        code: "not_found",
      });
      expect(await plane.refusal("POST", url(readAs), { path: plane.guest.dir })).toEqual({
        status: 400,
        code: "invalid_request",
      });
      expect((await write(writeAs, plane.guest.dir, "x")).status).toBe(400);
    });

    test("a form without path or file, and a body that is no form, are 400 and write nothing", async () => {
      expect((await write(writeAs, undefined, "x")).status).toBe(400);
      expect(await plane.refusal("POST", url(writeAs), { path: at("never") })).toEqual({
        status: 400,
        code: "invalid_request",
      });
      const noFile = new FormData();
      noFile.set("path", at("never"));
      const answer = await fetch(plane.address + url(writeAs), {
        method: "POST",
        headers: { [headers.apiKey]: apiKey },
        body: noFile,
      });
      expect(answer.status).toBe(400);
      expect(await exists(at("never"))).toBe(false);
    });

    test("a download that breaks off is broken at the client too", async () => {
      plane.host.cut = true;
      const got = await plane.fetch("POST", url(readAs), { path: "/x" });
      expect(
        await got.arrayBuffer().then(
          () => "whole",
          () => "broken",
        ),
      ).toBe("broken");
      plane.host.cut = false;
    });

    test("an upload whose client leaves in the middle leaves no file", async () => {
      const path = at(`${writeAs.replace("/", "-")}-cut`);
      const body = [
        '--B\r\ncontent-disposition: form-data; name="path"\r\n\r\n',
        path,
        '\r\n--B\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n',
        "x".repeat(300_000),
      ].join("");
      const proxied = plane.host.proxied;
      const socket = createConnection(Number(new URL(plane.address).port), "127.0.0.1");
      socket.write(
        `POST ${url(writeAs)} HTTP/1.1\r\nhost: x\r\nx-api-key: ${apiKey}\r\ncontent-type: multipart/form-data; boundary=B\r\ncontent-length: 9000000\r\n\r\n${body}`,
      );
      if (writeAs === "stream/write") while (plane.host.proxied === proxied) await Bun.sleep(5);
      else await Bun.sleep(30);
      socket.destroy();
      // The next request is served after the broken one was noticed.
      for (let i = 0; i < 5; i++) await write(writeAs, at("after"), "x");
      expect(await exists(path)).toBe(false);
    });
  });

describe("sizes and order", () => {
  /** Status line of an upload whose head claims `length` bytes and that sends none. */
  const claimed = (action: string, length: number) =>
    new Promise<string>((resolve) => {
      const socket = createConnection(Number(new URL(plane.address).port), "127.0.0.1");
      socket.once("data", (data) => {
        socket.destroy();
        resolve(String(data).split("\r\n")[0]!);
      });
      socket.write(
        `POST ${url(action)} HTTP/1.1\r\nhost: x\r\nx-api-key: ${apiKey}\r\ncontent-type: multipart/form-data; boundary=B\r\ncontent-length: ${length}\r\n\r\n--`,
      );
    });

  test("the buffered route takes its fields in any order, the streamed one wants the path first", async () => {
    expect((await write("write", at("order"), "x", true)).status).toBe(204);
    expect((await write("stream/write", at("order2"), "x", true)).status).toBe(400);
    expect(await exists(at("order2"))).toBe(false);
  });

  test("the buffered route refuses more than 100 MiB, announced or not, before anything is written", async () => {
    expect(await claimed("write", 101 * mib)).toContain("413");
    const answer = await fetch(plane.address + url("write"), {
      method: "POST",
      headers: { [headers.apiKey]: apiKey, "content-type": "multipart/form-data; boundary=B" },
      body: new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(4 * mib)),
      }),
    });
    expect(answer.status).toBe(413);
  });
});

describe("directories", () => {
  test("are made with their parents, listed to a depth, and removed with all they hold", async () => {
    const made = await plane.json<{ entry: rest.FileEntry }>(200, "POST", url("mkdir"), { path: at("a/b") });
    expect(made.entry).toMatchObject({ name: "b", path: at("a/b"), type: "directory" });
    expect(await plane.refusal("POST", url("mkdir"), { path: at("a/b") })).toEqual({ status: 409, code: "conflict" });
    await write("write", at("a/b/f"), "12345");
    const list = async (depth?: number) =>
      (
        await plane.json<{ entries: rest.FileEntry[] }>(200, "POST", url("list"), {
          path: at("a"),
          ...(depth !== undefined && { depth }),
        })
      ).entries;
    expect((await list()).map((entry) => entry.name)).toEqual(["b"]);
    expect((await list(0)).map((entry) => entry.name)).toEqual(["b"]);
    const file = (await list(2)).find((entry) => entry.name === "f")!;
    expect(file).toMatchObject({ path: at("a/b/f"), type: "file", size: 5 });
    expect(file.modified_at).toBe(Math.floor((await stat(at("a/b/f"))).mtimeMs / 1000));
    await plane.json(204, "POST", url("remove"), { path: at("a") });
    expect(await exists(at("a"))).toBe(false);
    await plane.json(204, "POST", url("remove"), { path: at("a") });
  });

  test("listing a missing folder is 404, a file 400", async () => {
    await write("write", at("plain"), "x");
    expect(await plane.refusal("POST", url("list"), { path: at("missing") })).toEqual({
      status: 404,
      code: "not_found",
    });
    expect(await plane.refusal("POST", url("list"), { path: at("plain") })).toEqual({
      status: 400,
      code: "invalid_request",
    });
  });
});
