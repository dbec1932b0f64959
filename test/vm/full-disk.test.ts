import { expect, test } from "bun:test";
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { Sandbox } from "wrenn";
import { installed } from "../support/data-folder.ts";
import { isAlive } from "../support/processes.ts";
import { wrennProgram } from "../support/system.ts";

const isRoot = process.getuid?.() === 0;
const title = "on a disk that is nearly full the system starts, and a create is refused before it begins";

(isRoot ? test : test.skip)(isRoot ? title : `${title} — skipped: only root can mount a small disk`, async () => {
  const small = `${installed}/tests/small-${crypto.randomUUID().slice(0, 8)}`;
  await mkdir(small);
  await Bun.$`mount -t tmpfs -o size=300M,mode=755 wrenn-test ${small}`.quiet();
  try {
    await refusesToCreate(small);
  } finally {
    await Bun.$`umount ${small}`.quiet();
    await rm(small, { recursive: true });
  }
});

async function refusesToCreate(small: string): Promise<void> {
  for (const shared of ["kernels", "images"]) await symlink(`${installed}/${shared}`, `${small}/${shared}`);
  const child = Bun.spawn([wrennProgram, "up", "--json", "--dir", small, "--listen", "127.0.0.1:0"], {
    env: { ...process.env, XDG_CONFIG_HOME: small, HOME: small, WRENN_DIR: small },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "ignore" },
  });
  try {
    const { value } = await child.stdout.getReader().read();
    const { url, apiKey } = JSON.parse(new TextDecoder().decode(value)) as { url: string; apiKey: string };
    const thrown = await Sandbox.create({ baseUrl: url, apiKey }).catch((error) => error);
    expect(thrown).toMatchObject({
      code: "insufficient_storage",
      remedy: expect.stringContaining("Free disk space"),
    });
  } finally {
    child.kill("SIGTERM");
    await child.exited;
  }
  expect(await readdir(`${small}/layers`)).toEqual([]);
  expect(isAlive(child.pid)).toBe(false);
}
