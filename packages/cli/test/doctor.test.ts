import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { emptyHome, envFor, wrenn } from "./cli.ts";

setDefaultTimeout(60_000);

let home: string;
let env: Record<string, string>;
beforeEach(() => {
  home = emptyHome();
  env = { ...envFor("http://127.0.0.1:1", "key", home), WRENN_DIR: `${home}/data`, WRENN_BIN_DIR: home };
});
afterEach(() => rm(home, { recursive: true }));

/** A host agent that answers the probe with this report. */
const hostAgent = (report: object) =>
  writeFile(`${home}/wrenn-agent`, `#!/bin/sh\n[ "$*" = "probe --json" ] && echo '${JSON.stringify(report)}'\n`, {
    mode: 0o755,
  });

const kvm = { name: "kvm", ok: false, detail: "no /dev/kvm", remedy: "Use another machine." };
const drivers = { vmm: "qemu", accelerator: "tcg", disk: "qcow2", network: "user-mode" };

test("probes of host and installation stand in one list, each fact once, and the drivers below", async () => {
  await hostAgent({ probes: [kvm, { name: "kernel", ok: true, detail: "vmlinux-6.1" }], ...drivers });
  const { stdout } = await wrenn(["doctor", "--json"], env);
  const report = JSON.parse(stdout);
  expect(report).toMatchObject(drivers);
  const names = report.probes.map((probe: { name: string }) => probe.name);
  expect(names).toEqual(["kvm", "kernel", "PostgreSQL", "data folder", "disk space", "server"]);
  const shown = await wrenn(["doctor"], env);
  expect(shown.stdout).toMatch(/– kvm +no \/dev\/kvm\n +remedy: Use another machine\./);
  expect(shown.stdout).toMatch(/accelerator +tcg/);
});

test("emulation is no fault, a missing image is", async () => {
  await hostAgent({ probes: [kvm], ...drivers });
  const broken = await wrenn(["doctor"], { ...env, DATABASE_URL: "postgres://given" });
  expect(broken).toMatchObject({ code: 1, stdout: expect.stringMatching(/✗ images +no kernel/) });
  await mkdir(`${home}/data/kernels`, { recursive: true });
  await mkdir(`${home}/data/images/base`, { recursive: true });
  await writeFile(`${home}/data/kernels/vmlinux-6.1`, "");
  await writeFile(`${home}/data/images/base/rootfs.ext4`, "");
  const whole = await wrenn(["doctor"], { ...env, DATABASE_URL: "postgres://given" });
  expect(whole).toMatchObject({ code: 0, stdout: expect.stringMatching(/✓ images +base; vmlinux-6.1/) });
});

test("a host agent that is missing or fails is a probe of its own", async () => {
  const missing = JSON.parse((await wrenn(["doctor", "--json"], env)).stdout);
  expect(missing.probes[0]).toMatchObject({
    name: "host agent",
    ok: false,
    remedy: expect.stringContaining("make build"),
  });
  await writeFile(`${home}/wrenn-agent`, "#!/bin/sh\necho broken >&2; exit 3\n", { mode: 0o755 });
  const failing = JSON.parse((await wrenn(["doctor", "--json"], env)).stdout);
  expect(failing.probes[0]).toMatchObject({ name: "host agent", detail: "its probe failed: broken" });
});
