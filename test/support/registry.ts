import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";

/** A file of a layer: text, or a link, with what else its entry says. */
export type LayerFile = { name: string; text?: string; from?: string; link?: string; mode?: number; uid?: number };
/** Who may read a private registry. */
export type Account = { username: string; password: string };

/** What a manifest names. */
export type ManifestText = { config: { digest: string; size: number; mediaType: string }; layers: object[] };

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";

const digest = (text: string) => `sha256:${new Bun.CryptoHasher("sha256").update(text).digest("hex")}`;

const bcrypt = (password: string) => Bun.password.hash(password, { algorithm: "bcrypt", cost: 4 });

/** What an image is made of. */
export type ImageSpec = { layers: LayerFile[][]; config?: string[] };

/** A real registry of images on this machine, and a bench to make images on. */
export class Registry implements AsyncDisposable {
  private constructor(
    readonly dir: string,
    readonly address: string,
    readonly child: Bun.Subprocess,
    readonly account: Account | undefined,
  ) {}

  /** Starts one; with `account` it is private. */
  static async start(account?: Account): Promise<Registry> {
    const dir = await mkdtemp(join(tmpdir(), "wrenn-registry-"));
    const port = await freePort();
    const storage = `storage: {filesystem: {rootdirectory: ${dir}/data}}`;
    const auth = account ? `auth: {htpasswd: {realm: test, path: ${dir}/users}}\n` : "";
    if (account) await writeFile(`${dir}/users`, `${account.username}:${await bcrypt(account.password)}\n`);
    await writeFile(
      `${dir}/config.yml`,
      `version: 0.1\nlog: {level: error}\n${storage}\n${auth}http: {addr: "127.0.0.1:${port}"}\n`,
    );
    const child = Bun.spawn(["docker-registry", "serve", `${dir}/config.yml`], { stdout: "ignore", stderr: "ignore" });
    const registry = new Registry(dir, `127.0.0.1:${port}`, child, account);
    while (!(await fetch(`http://${registry.address}/v2/`).catch(() => undefined))) await Bun.sleep(20);
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
    const as = ["--dest-creds", this.#account];
    await $`skopeo copy --quiet --dest-tls-verify=false ${as} oci:${`${this.layout}:${tag}`} docker://${name}`.quiet();
    return name;
  }

  /** The digest of an image that was sent there. */
  async digestOf(tag: string): Promise<string> {
    return digest(await this.#manifest(tag));
  }

  /** An index that has an image of another processor before this one. Answers its name. */
  async pushIndex(tag: string): Promise<string> {
    const own = await this.#manifest(tag);
    const other = JSON.stringify({ ...(JSON.parse(own) as ManifestText), annotations: { of: "another processor" } });
    await this.#put(tag, "other", manifestType, other);
    const entry = (text: string, architecture: string) => ({
      ...{ mediaType: manifestType, size: Buffer.byteLength(text), digest: digest(text) },
      platform: { os: "linux", architecture },
    });
    const manifests = [entry(other, "s390x"), entry(own, "amd64")];
    return await this.#put(
      tag,
      "all",
      indexType,
      JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests }),
    );
  }

  /** Stores a changed manifest of an image beside it, just as it is. Answers its name. */
  async pushChanged(tag: string, change: (manifest: ManifestText) => ManifestText): Promise<string> {
    const text = JSON.stringify(change(JSON.parse(await this.#manifest(tag)) as ManifestText));
    return await this.#put(tag, "changed", manifestType, text);
  }

  async #manifest(tag: string): Promise<string> {
    return await (await this.#request(`${tag}/manifests/1`, { headers: { accept: manifestType } })).text();
  }

  async #put(tag: string, version: string, type: string, body: string): Promise<string> {
    await this.#request(`${tag}/manifests/${version}`, { method: "PUT", headers: { "content-type": type }, body });
    return `${this.address}/test/${tag}:${version}`;
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Basic ${btoa(this.#account)}`);
    const response = await fetch(`http://${this.address}/v2/test/${path}`, { ...init, headers });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  /** Name and password of the account that pushes; an open registry does not look at them. */
  get #account(): string {
    return this.account ? `${this.account.username}:${this.account.password}` : "nobody:none";
  }

  /** Makes an image of a folder as it is. */
  async makeOf(tag: string, folder: string, config: string[] = []): Promise<void> {
    const image = `${this.layout}:${tag}`;
    await $`umoci new --image ${image}`.quiet();
    await $`tar -C ${folder} --numeric-owner -cf ${this.dir}/${tag}.tar .`.quiet();
    await $`umoci raw add-layer --image ${image} ${this.dir}/${tag}.tar && rm ${this.dir}/${tag}.tar`.quiet();
    if (config.length > 0) await $`umoci config --image ${image} ${config}`.quiet();
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
