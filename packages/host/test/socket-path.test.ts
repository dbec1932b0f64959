import { expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { withSocketPath } from "../src/socket-path.ts";

for (const [what, folder] of [
  ["an ordinary", "run"],
  ["a deep", "deep".repeat(40)],
]) {
  test(`a socket in ${what} folder is listened at and reached, and no descriptor stays`, async () => {
    const root = await mkdtemp(`${tmpdir()}/wrenn-path-`);
    await mkdir(`${root}/${folder}`);
    const path = `${root}/${folder}/s`;
    const open = (await readdir("/proc/self/fd")).length;
    const server = await withSocketPath(path, async (unix) => Bun.serve({ unix, fetch: () => new Response("here") }));
    try {
      const answer = await withSocketPath(path, (unix) => fetch("http://localhost/", { unix, keepalive: false }));
      expect(await answer.text()).toBe("here");
      await server.stop(true);
      expect((await readdir("/proc/self/fd")).length).toBeLessThanOrEqual(open);
    } finally {
      await server.stop(true);
      await rm(root, { recursive: true, force: true });
    }
  });
}
