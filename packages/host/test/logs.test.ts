import { expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { SandboxId } from "@wrenn/contract";
import { Book } from "../src/logs/book.ts";
import { ConsoleReader } from "../src/logs/console.ts";
import { Scribe } from "../src/logs/scribe.ts";
import { FakeHost, quiet } from "./support/host.ts";

const line = (message: string) => ({ message, level: "info", source: "host", fields: {}, timestampMs: 1 }) as const;

test("a book keeps the newest thousand, and a cursor leads on over what was dropped", () => {
  const book = new Book();
  for (let i = 1; i <= 1_500; i++) book.add(line(`${i}`));
  expect(book.after(0)[0]!.message).toBe("501");
  expect(book.after(1_498).map((entry) => entry.cursor)).toEqual([1_499, 1_500]);
  expect(book.after(0, { limit: 2 }).map((entry) => entry.message)).toEqual(["501", "502"]);
  expect(book.after(0, { limit: 2, newest: true }).map((entry) => entry.message)).toEqual(["1499", "1500"]);
  expect(Book.decode(book.encode()).after(1_499)).toEqual(book.after(1_499));
  expect(Book.decode("{broken").after(0)).toEqual([]);
});

test("a line of any length is cut", () => {
  const book = new Book();
  book.add(line("x".repeat(1 << 20)));
  expect(book.after(0)[0]!.message.length).toBeLessThan(2_100);
});

/** A console file in a folder of its own. */
async function console() {
  const dir = await mkdtemp(`${tmpdir()}/wrenn-console-`);
  const path = `${dir}/console.log`;
  return { path, reader: new ConsoleReader(path), [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) };
}

test("a console is read by whole lines, without what would act on a terminal", async () => {
  await using it = await console();
  expect(it.reader.lines()).toEqual([]);
  await writeFile(it.path, "one\r\n\x1b[31mtwo\x1b[0m\x07\nthr");
  expect(it.reader.lines()).toEqual(["one", "two"]);
  await writeFile(it.path, "ee\n", { flag: "a" });
  expect(it.reader.lines()).toEqual(["three"]);
  expect(it.reader.lines()).toEqual([]);
});

test("a console that floods is emptied, and read on", async () => {
  await using it = await console();
  for (let i = 0; i < 20; i++) {
    await writeFile(it.path, `${"x".repeat(99)}\n`.repeat(10_000), { flag: "a" });
    it.reader.lines();
    expect((await stat(it.path)).size).toBe(0);
  }
  await writeFile(it.path, "the end\n", { flag: "a" });
  expect(it.reader.lines()).toEqual(["the end"]);
});

test("a link that a VMM put in the console's place is not followed", async () => {
  await using it = await console();
  await writeFile(`${it.path}.secret`, "a secret of the host\n");
  await symlink(`${it.path}.secret`, it.path);
  expect(it.reader.lines()).toEqual([]);
  expect((await stat(`${it.path}.secret`)).size).toBeGreaterThan(0);
});

const told = async (scribe: Scribe, host: FakeHost, id: SandboxId) =>
  (await scribe.entries(host.sandboxes.find(id), 0)).map(({ source, message }) => `${source} ${message}`);

const happening = (seq: number, message: string, atMs = Date.now()) => ({
  seq,
  atMs,
  message,
  level: "info",
  fields: {},
});

test("a log tells a sandbox's life and its commands, over a pause and a restart, and ends with it", async () => {
  await using host = await FakeHost.start();
  const first = await Scribe.start(host.sandboxes, quiet);
  const { id } = await host.create();
  host.world.history = { last: 9, happenings: [happening(7, "of the template", 1_000), happening(9, "started: make")] };
  expect(await told(first, host, id)).toEqual(["host running", "process started: make"]);
  expect((await told(first, host, id)).length).toBe(2); // asked again, told once
  await host.sandboxes.pause(id, "ttl_expired");
  const asPaused = await told(first, host, id);
  expect(asPaused.slice(2)).toEqual(["host pausing: ttl_expired", "host paused: ttl_expired"]);
  await first[Symbol.asyncDispose]();
  await host.restart();
  await using second = await Scribe.start(host.sandboxes, quiet);
  expect(await told(second, host, id)).toEqual(asPaused);
  await host.sandboxes.resume(id, 2);
  expect((await told(second, host, id)).slice(4)).toEqual(["host resuming", "host running"]);
  await host.sandboxes.destroy(id);
  await Bun.sleep(20);
  expect(await readdir(`${host.dir}/journals`)).toEqual([]);
});

test("a guest that was rolled back counts from an earlier number: what is new is told, what was is not told again", async () => {
  await using host = await FakeHost.start();
  await using scribe = await Scribe.start(host.sandboxes, quiet);
  const { id } = await host.create();
  const early = happening(1, "started: one");
  host.world.history = { last: 2, happenings: [early, happening(2, "started: two")] };
  await told(scribe, host, id);
  await Bun.sleep(5);
  host.world.history = { last: 1, happenings: [early] };
  await told(scribe, host, id);
  host.world.history = { last: 2, happenings: [early, happening(2, "started: another two")] };
  const processes = (await told(scribe, host, id)).filter((entry) => entry.startsWith("process"));
  expect(processes).toEqual(["process started: one", "process started: two", "process started: another two"]);
});

test("what a hostile guest says of itself is bounded and has the right shape", async () => {
  await using host = await FakeHost.start();
  await using scribe = await Scribe.start(host.sandboxes, quiet);
  const { id } = await host.create();
  const odd = [
    null,
    7,
    { seq: "x" },
    { ...happening(1, "ok"), level: "root", fields: { a: "x".repeat(1 << 20), b: {} } },
  ];
  for (const history of [null, [], "text", { happenings: 5 }, { last: -1, happenings: odd }]) {
    host.world.history = history;
    await told(scribe, host, id);
  }
  const [, entry] = await scribe.entries(host.sandboxes.find(id), 0);
  expect(entry).toMatchObject({ message: "ok", level: "info", fields: { b: "[object Object]" } });
  expect(entry!.fields.a!.length).toBe(256);
});
