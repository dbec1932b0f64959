import { afterAll } from "bun:test";
import { rm } from "node:fs/promises";
import { compile } from "../../packages/host/src/config.ts";
import { findImage, newestKernel } from "../../packages/host/src/images.ts";
import { chooseDrivers } from "../../packages/host/src/index.ts";
import { vmmSuite } from "../../packages/host/test/suites/vmm.ts";
import { quiet } from "../../packages/host/test/support/host.ts";
import { dataFolder } from "../support/data-folder.ts";

// Longer than a unix socket's path can be, as a data folder deep in somebody's home is.
const root = await dataFolder(`qemu-${"deep".repeat(25)}`);
afterAll(() => rm(root, { recursive: true, force: true }));

/** In the guest's memory, not on its disk. */
const word = "files?path=/dev/shm/word&username=root";

vmmSuite("qemu", async () => ({
  drivers: await chooseDrivers(compile({ dir: root, token: "a token of the test" }), quiet),
  root,
  kernel: await newestKernel(root),
  rootfs: (await findImage(root, "minimal")).rootfs,
  remember: async (address, text) => {
    const headers = { "content-type": "application/octet-stream" };
    const answer = await fetch(`http://${address}/${word}`, { method: "POST", headers, body: text });
    if (!answer.ok) throw new Error(`the guest answered ${answer.status}: ${await answer.text()}`);
  },
  recall: async (address) => (await fetch(`http://${address}/${word}`)).text(),
}));
