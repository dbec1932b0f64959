import { expect, test } from "bun:test";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { pathLine } from "../src/up/programs.ts";
import { emptyHome } from "./cli.ts";

const install = `${import.meta.dir}/../../../scripts/install.sh`;

test("what `up` says to type first depends on whether `wrenn` is a command already", async () => {
  const home = emptyHome();
  const program = `${home}/wrenn`;
  await writeFile(program, "");
  await symlink(program, `${home}/link`);
  expect(pathLine(program, null)).toBe(`  export PATH=${home}:$PATH\n`);
  expect(pathLine(program, process.execPath)).toBe(`  export PATH=${home}:$PATH\n`); // another one
  expect(pathLine(program, `${home}/link`)).toBe("");
  expect(pathLine("/usr/bin/bun", null)).toBe(""); // from sources
});

test("installing links the programs, again and again, and replaces no file of somebody else", async () => {
  const prefix = `${emptyHome()}/prefix`;
  const run = () => Bun.spawnSync(["bash", install, prefix]);
  for (const { exitCode, stdout } of [run(), run()]) {
    expect(exitCode).toBe(0);
    expect(stdout.toString()).toContain(`export PATH=${prefix}/bin`);
  }
  const other = `${emptyHome()}/other`;
  await mkdir(`${other}/bin`, { recursive: true });
  await writeFile(`${other}/bin/wrenn`, "mine");
  const { exitCode, stderr } = Bun.spawnSync(["bash", install, other]);
  expect(exitCode).toBe(1);
  expect(stderr.toString()).toContain("PREFIX=");
  expect(await Bun.file(`${other}/bin/wrenn`).text()).toBe("mine");
});
