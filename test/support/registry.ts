import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";

/** A file of a layer: text, or a link, with what else its entry says. */
export type LayerFile = { name: string; text?: string; from?: string; link?: string; mode?: number; uid?: number };
/** What an image is made of. */
export type ImageSpec = { layers: LayerFile[][]; config?: string[] };

/** A real registry of images on this machine, and a bench to make images on. */
export class Registry implements AsyncDisposable {
  private constructor(
    readonly dir: string,
    readonly address: string,
    readonly child: Bun.Subprocess,
  ) {}

  static async start(): Promise<Registry> {
    const dir = await mkdtemp(join(tmpdir(), "wrenn-registry-"));
    const port = await freePort();
    const storage = `storage: {filesystem: {rootdirectory: ${dir}/data}}`;
    await writeFile(
      `${dir}/config.yml`,
      `version: 0.1\nlog: {level: error}\n${storage}\nhttp: {addr: "127.0.0.1:${port}"}\n`,
    );
    const child = Bun.spawn(["docker-registry", "serve", `${dir}/config.yml`], { stdout: "ignore", stderr: "ignore" });
    const registry = new Registry(dir, `127.0.0.1:${port}`, child);
    while (!(await fetch(`http://${registry.address}/v2/`).catch(() => undefined))?.ok) await Bun.sleep(20);
    await $`umoci init --layout ${dir}/layout`.quiet();
    return registry;
  }

  /** Path of the OCI layout in which images are made. */
  get layout(): string {
    return `${this.dir}/layout`;
  }

  /** Makes an image in the layout, under `tag`. Layers are tars of real files, so links and owners are real ones. */
  async make(tag: string, { layers, config = [] }: ImageSpec): Promise<void> {
    const image = `${this.layout}:${tag}`;
    await $`umoci new --image ${image}`.quiet();
    for (const [at, files] of layers.entries()) {
      const root = `${this.dir}/${tag}-${at}`;
      await mkdir(root, { mode: 0o755 });
      for (const file of files) await place(root, file);
      await $`tar -C ${root} --numeric-owner -cf ${root}.tar .`.quiet();
      await $`umoci raw add-layer --image ${image} ${root}.tar`.quiet();
    }
    if (config.length > 0) await $`umoci config --image ${image} ${config}`.quiet();
  }

  /** Adds a tar as a layer just as it is: for what no real folder can hold. */
  async addTar(tag: string, tar: Uint8Array): Promise<void> {
    await writeFile(`${this.dir}/own.tar`, tar);
    await $`umoci raw add-layer --image ${`${this.layout}:${tag}`} ${this.dir}/own.tar`.quiet();
  }

  /** Sends an image of the layout to the registry; answers its name there. */
  async push(tag: string): Promise<string> {
    const name = `${this.address}/test/${tag}:1`;
    await $`skopeo copy --quiet --dest-tls-verify=false oci:${`${this.layout}:${tag}`} docker://${name}`.quiet();
    return name;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill();
    await this.child.exited;
    await rm(this.dir, { recursive: true, force: true });
  }
}

async function place(root: string, { name, text = "", from, link, mode, uid }: LayerFile): Promise<void> {
  const path = `${root}/${name}`;
  await $`mkdir -p ${path.slice(0, path.lastIndexOf("/"))}`.quiet();
  if (link !== undefined) await $`ln -s ${link} ${path}`.quiet();
  else if (from !== undefined) await $`cp ${from} ${path}`.quiet();
  else if (!name.endsWith("/")) await writeFile(path, text);
  if (uid !== undefined) await $`chown ${`${uid}:${uid}`} ${path}`.quiet();
  if (mode !== undefined) await $`chmod ${mode.toString(8)} ${path}`.quiet();
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
