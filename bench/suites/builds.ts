import { mkdir, rm } from "node:fs/promises";
import { $ } from "bun";
import { Registry } from "../../test/support/registry.ts";
import type { Context, Suite } from "../context.ts";
import { timed } from "../measure.ts";
import { root, World } from "../world.ts";

const imageMib = 500;
const files = 2_000;

/** From an image or a folder to a template. */
export const builds: Suite = {
  name: "builds",
  pledges: [
    {
      ...{ id: "image-500", text: `a ${imageMib} MiB image of a registry to a template, its layers cached`, unit: "s" },
      ...{ better: "lower", against: "umoci unpack and mke2fs -d", target: { times: 2 } },
    },
    {
      ...{ id: "rebuild-same", text: "build a Dockerfile again with nothing changed", unit: "s", better: "lower" },
      target: { absolute: 2 },
    },
  ],
  lacks: () => (process.getuid?.() === 0 ? undefined : "images are imported by root only"),
  async run(context) {
    await using registry = await Registry.start();
    process.env.WRENN_REGISTRIES = registry.address;
    process.env.WRENN_GUEST_DIR = `${root}builds/guest`;
    await using world = await World.start(["minimal"]);
    if (context.wants("rebuild-same")) await again(context, world);
    if (context.wants("image-500")) await large(context, world, registry);
  },
};

async function again(context: Context, world: World): Promise<void> {
  const dockerfile = "FROM minimal\nRUN echo one >/one\nRUN echo two >/two\n";
  await built(world, "again", { dockerfile });
  const values: number[] = [];
  for (let run = 0; run < context.runs(5); run++)
    values.push((await timed(() => built(world, "again", { dockerfile }))) / 1000);
  context.keep("rebuild-same", { values });
}

async function large(context: Context, world: World, registry: Registry): Promise<void> {
  context.say(`making an image of ${imageMib} MiB`);
  await madeOf(registry);
  const [values, baseline]: [number[], number[]] = [[], []];
  for (let run = -1; run < context.runs(2); run++) {
    // Another variable is another image of the same layers: these are cached, the file system is not.
    await $`umoci config --image ${`${registry.layout}:large`} --config.env=RUN=${run}`.quiet();
    const from = await registry.push("large");
    const seconds = (await timed(() => built(world, "large", { from }))) / 1000;
    const bare = (await timed(() => unpacked(registry))) / 1000;
    if (run < 0) continue; // the first one pulls the layers
    values.push(seconds);
    baseline.push(bare);
  }
  context.keep("image-500", { values, baseline });
}

/** Files of which half packs well, as those of real images. */
async function madeOf(registry: Registry): Promise<void> {
  const folder = `${registry.dir}/content`;
  await mkdir(folder);
  const bytes = (imageMib * 2 ** 20) / files;
  for (let at = 0; at < files; at++) {
    const content = Buffer.alloc(bytes, `line ${at} `);
    for (let from = 0; from < bytes / 2; from += 65_536)
      crypto.getRandomValues(content.subarray(from, Math.min(from + 65_536, bytes / 2)));
    await Bun.write(`${folder}/${at % 50}/${at}`, content);
  }
  await $`tar -C ${folder} -cf ${folder}.tar .`.quiet();
  const image = `${registry.layout}:large`;
  await $`umoci new --image ${image} && umoci raw add-layer --image ${image} ${folder}.tar`.quiet();
  await rm(folder, { recursive: true });
}

/** The least that anybody does to make a disk of an image. */
async function unpacked(registry: Registry): Promise<void> {
  const work = `${registry.dir}/bare`;
  await $`umoci unpack --image ${`${registry.layout}:large`} ${work}`.quiet();
  await $`truncate -s 5G ${work}/disk && mke2fs -q -F -t ext4 -d ${work}/rootfs ${work}/disk`
    .env({ ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` })
    .quiet();
  await rm(work, { recursive: true });
}

async function built(world: World, name: string, what: { dockerfile?: string; from?: string }): Promise<void> {
  const { id } = await world.client.builds.start(name, what);
  await world.client.builds.wait(id);
}
