import { expect, test } from "bun:test";
import fc from "fast-check";
import { boundaryOf, MultipartReader } from "../src/files/multipart.ts";

/** The bytes of `body` in pieces of the given sizes, over and over. */
function source(body: Uint8Array, sizes: readonly number[]) {
  let at = 0;
  let turn = 0;
  return {
    async read() {
      if (at >= body.length) return { done: true };
      const size = Math.max(1, sizes[turn++ % sizes.length]!);
      const value = body.slice(at, at + size);
      at += size;
      return { done: false, value };
    },
  };
}

async function readAll(reader: MultipartReader) {
  const parts: { name: string; filename: string | undefined; bytes: number[] }[] = [];
  for (let part = await reader.next(); part; part = await reader.next()) {
    const pieces: Uint8Array[] = [];
    for (let piece = await part.read(); piece; piece = await part.read()) pieces.push(Buffer.from(piece));
    parts.push({ name: part.name, filename: part.filename, bytes: [...Buffer.concat(pieces)] });
  }
  return parts;
}

const boundary = "--b";

function encode(parts: readonly { filename: string; content: Uint8Array }[]): Uint8Array {
  const blocks = parts.flatMap(({ filename, content }) => [
    Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${filename}"\r\n\r\n`),
    content,
    Buffer.from("\r\n"),
  ]);
  return Buffer.concat([...blocks, Buffer.from(`--${boundary}--\r\n`)]);
}

test("property: contents come back whole, however the body is cut, also when they nearly hold the boundary", async () => {
  const almost = fc.constantFrom(
    "\r\n",
    "\r\n--",
    "\r\n----",
    `\r\n--${boundary.slice(0, 2)}`,
    "-",
    "\r",
    "\n",
    "\r\r\n-",
  );
  const content = fc.array(fc.oneof(almost, fc.string({ maxLength: 5 })), { maxLength: 20 });
  const parts = fc.array(fc.record({ filename: fc.constantFrom("a", "b/c", "ü"), content }), { maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(parts, fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), async (given, sizes) => {
      const sent = given.map(({ filename, content }) => ({ filename, content: Buffer.from(content.join("")) }));
      fc.pre(sent.every(({ content }) => !content.includes(`\r\n--${boundary}`)));
      const got = await readAll(new MultipartReader(source(encode(sent), sizes), boundary));
      expect(got).toEqual(sent.map(({ filename, content }) => ({ name: "file", filename, bytes: [...content] })));
    }),
    { numRuns: 300 },
  );
});

test("property: any bytes are either read or refused as malformed", async () => {
  const token = fc.constantFrom("--", boundary, "\r\n", "Content-Disposition: form-data; name=x", ":", "\r\n\r\n", "a");
  await fc.assert(
    fc.asyncProperty(fc.array(token, { maxLength: 30 }), async (tokens) => {
      try {
        await readAll(new MultipartReader(source(Buffer.from(tokens.join("")), [3]), boundary));
      } catch (thrown) {
        expect((thrown as { code?: string }).code).toBe("invalid_request");
      }
    }),
    { numRuns: 300 },
  );
});

test("a part may be left unread, and text around the form is ignored", async () => {
  const body = Buffer.concat([
    Buffer.from("preamble\r\n"),
    encode([
      { filename: "skipped", content: Buffer.alloc(1000) },
      { filename: "read", content: Buffer.from("x") },
    ]),
    Buffer.from("epilogue"),
  ]);
  const reader = new MultipartReader(source(body, [7]), boundary);
  await reader.next();
  expect((await reader.next())?.filename).toBe("read");
});

test("boundaries are read as RFC 2046 writes them", () => {
  expect(boundaryOf("multipart/form-data; boundary=abc")).toBe("abc");
  expect(boundaryOf('multipart/form-data; charset=utf-8; boundary="a b"')).toBe("a b");
  expect(() => boundaryOf("multipart/form-data")).toThrow("names no boundary");
});

test("headers without end are refused", async () => {
  const body = Buffer.from(`--${boundary}\r\n${"x".repeat(40_000)}`);
  const reader = new MultipartReader(source(body, [4096]), boundary);
  expect(reader.next()).rejects.toThrow("too long");
});
