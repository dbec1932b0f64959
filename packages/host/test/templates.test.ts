import { expect, test } from "bun:test";
import { readdir, utimes } from "node:fs/promises";
import type { WrennError } from "@wrenn/contract";
import { fakeImage } from "../src/drivers/fake.ts";
import { neededTemplates } from "../src/heal.ts";
import { importedFolder } from "../src/images.ts";
import { FakeHost } from "./support/host.ts";

/** Gives an image more facts than the usual ones. */
async function change(folder: string, facts: object): Promise<void> {
  const path = `${folder}/image.json`;
  await Bun.write(path, JSON.stringify({ ...(await Bun.file(path).json()), ...facts }));
}

test("a create that would wait for a program's first start says so; that goes on, and the next one is made", async () => {
  await using host = await FakeHost.start();
  await fakeImage(host.dir, "server");
  await change(`${host.dir}/images/server`, { start: "serve" });
  const gate = Promise.withResolvers<void>();
  host.world.before = (effect) => (effect === "vmm.boot" ? gate.promise : undefined);
  const refused = await host.create({ template: "server" }).catch((thrown) => thrown as WrennError);
  expect(refused).toMatchObject({ code: "unavailable", details: { template: "server", retry_after_sec: "15" } });
  expect(host.sandboxes.list()).toEqual([]);
  gate.resolve();
  host.world.before = () => {};
  await host.sandboxes.kitchen.templates.ready("server", { vcpus: 1, memoryMib: 128 });
  expect(await host.create({ template: "server" })).toMatchObject({ state: "running" });
});

test("an imported image goes when no build began with it for long, and its template with the last that stands on it", async () => {
  await using host = await FakeHost.start();
  const { templates } = host.sandboxes.kitchen;
  const folder = importedFolder(host.dir);
  for (const name of ["old", "new"]) {
    await fakeImage(`${host.dir}/made`, name);
    await Bun.$`mkdir -p ${folder} && mv ${host.dir}/made/images/${name} ${folder}/${name}`.quiet();
    await host.create({ template: name });
  }
  const old = new Date(Date.now() - 30 * 24 * 3_600_000);
  await utimes(`${folder}/old/image.json`, old, old);
  const tidy = () => templates.tidy(() => neededTemplates(host.sandboxes.journal));
  await tidy();
  expect(await readdir(folder)).toEqual(["new"]);
  const keys = () => readdir(`${host.dir}/templates`);
  const before = await keys();
  expect(before.length).toBe(2);
  for (const { id, spec } of host.sandboxes.list()) if (spec.template === "old") await host.sandboxes.destroy(id);
  await tidy();
  const [left, ...others] = await keys();
  expect([before.includes(left!), others]).toEqual([true, []]);
  expect((await templates.byKey(left!)).image.name).toBe("new");
});
