import { describe, expect, test } from "bun:test";
import { chmodSync, statSync } from "node:fs";
import { $ } from "bun";
import { findUser, resolvePath } from "../src/users.ts";
import { collect, sh, useAgent } from "./support/agent.ts";

const agent = useAgent();
const isRoot = process.getuid?.() === 0;
const as = (name: string) => ({ headers: { Authorization: `Basic ${btoa(`${name}:`)}` } });

/** Accounts of this machine: one with supplementary groups, where there is one, and one without. */
const names = (await $`getent passwd`.text()).split("\n").map((line) => line.split(":")[0]!);
const accounts = names.filter(Boolean).map(findUser);
const grouped = accounts.find((user) => user.uid > 0 && user.groups.length > 0);
const plain = accounts.find((user) => user.uid > 0 && user.groups.length === 0)!;

/** A title that tells why its test is skipped, where it is. */
const unless = (reason: string | false, title: string) => (reason ? `${title} — skipped: ${reason}` : title);
const noRoot = !isRoot && "this is not root";
const noGroups = !grouped && "no account has supplementary groups";

describe.skipIf(!isRoot)(unless(noRoot, "as root, a process runs as the user asked for"), () => {
  const whoIs = async (name: string) => (await collect(agent.processes().start(sh("id"), as(name)))).stdout;

  test("with its ids and nothing of the agent's", async () => {
    expect(await whoIs(plain.name)).toBe(
      await $`setpriv --reuid ${plain.uid} --regid ${plain.gid} --clear-groups id`.text(),
    );
  });

  test.skipIf(!grouped)(unless(noGroups, "with its supplementary groups, and the agent is root again"), async () => {
    const { uid, gid, name } = grouped!;
    expect(await whoIs(name)).toBe(await $`setpriv --reuid ${uid} --regid ${gid} --init-groups id`.text());
    const probe = await collect(
      agent.processes().start(sh("grep -E '^(Cap(Eff|Prm|Amb)|Uid|Gid)' /proc/self/status"), as(name)),
    );
    expect(probe.stdout).toMatch(
      new RegExp(`^Uid:(\\t${uid}){4}\\nGid:(\\t${gid}){4}\\nCapPrm:\\t0+\\nCapEff:\\t0+\\nCapAmb:\\t0+\\n$`),
    );
    expect(await whoIs("root")).toBe(await $`id`.text());
    expect([process.geteuid?.(), process.getegid?.()]).toEqual([0, 0]);
  });

  test("on a terminal as well", async () => {
    const request = { ...sh("id -u; tty"), pty: { size: { cols: 80, rows: 24 } } };
    const { pty } = await collect(agent.processes().start(request, as(plain.name)));
    expect(pty).toMatch(new RegExp(`^${plain.uid}\\r\\n/dev/pts/\\d+\\r\\n$`));
  });

  for (const user of [plain, ...(grouped ? [grouped] : [])])
    test(`and the terminal is its controlling one, so that Ctrl-C works: ${user.groups.length} more groups`, async () => {
      const request = { ...sh("ps -o tty= -p $$; stat -c %u $(tty)"), pty: { size: { cols: 80, rows: 24 } } };
      const { pty } = await collect(agent.processes().start(request, as(user.name)));
      expect(pty).toMatch(new RegExp(`^pts/\\d+\\s*\\r\\n${user.uid}\\r\\n$`));
    });

  test("and owns the files and folders it uploads", async () => {
    chmodSync(agent.folder, 0o755);
    const path = `${agent.folder}/owned/by/file`;
    const query = new URLSearchParams({ path, username: plain.name });
    const headers = { "Content-Type": "application/octet-stream" };
    await fetch(`${agent.url}/files?${query}`, { method: "POST", body: "x", headers });
    for (const owned of [path, `${agent.folder}/owned/by`, `${agent.folder}/owned`])
      expect(statSync(owned)).toMatchObject({ uid: plain.uid, gid: plain.gid });
    expect(statSync(agent.folder).uid).toBe(0);
  });
});

test.skipIf(isRoot)(unless(isRoot && "this is root", "without root, another user is refused"), async () => {
  const thrown = await collect(agent.processes().start(sh("id"), as("root"))).catch((error) => error);
  expect(thrown).toMatchObject({ rawMessage: expect.stringContaining("root") });
});

test("paths are resolved as the user means them", () => {
  const user = { ...plain, home: "/home/u" };
  const resolved = (path: string, fallback?: string) => resolvePath(path, user, fallback);
  expect(resolved("~")).toBe("/home/u");
  expect(resolved("~/a")).toBe("/home/u/a");
  expect(resolved("a/../b")).toBe("/home/u/b");
  expect(resolved("/a//b/./c/")).toBe("/a/b/c");
  expect(resolved("", "/work")).toBe("/work");
  expect(resolved("")).toBe("/home/u");
  expect(() => resolved("~other/a")).toThrow("cannot expand");
  expect(() => resolved("a\0")).toThrow("NUL");
});
