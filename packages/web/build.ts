/** Builds the dashboard into a folder of static files that `wrenn-cp` serves: hashed names, compressed, no script in the page. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const here = import.meta.dir;

/** Smaller files gain nothing that the headers do not cost. */
const leastCompressedBytes = 512;
/** Formats that are compressed already. */
const compressed = /\.(woff2|png)$/;

/** Runs Vite; what it says is shown only when it fails. */
async function bundle(out: string): Promise<void> {
  const child = Bun.spawn([process.execPath, "--bun", join(here, "../../node_modules/.bin/vite"), "build"], {
    cwd: here,
    env: { ...process.env, NODE_ENV: "production", WRENN_WEB_OUT: out },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [said, complained, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`vite build ended with ${code}:\n${said}${complained}`);
}

/** SvelteKit starts the page by a script in it, which the Content-Security-Policy forbids: it becomes a file. */
async function moveScript(out: string): Promise<void> {
  const page = join(out, "index.html");
  const html = await readFile(page, "utf8");
  const [whole, script] = /<script>([\s\S]*?)<\/script>/.exec(html) ?? [];
  if (!whole || !script) throw new Error("the page has no start script: has SvelteKit changed it?");
  const boot = script.replace("document.currentScript.parentElement", 'document.getElementById("app")');
  if (boot === script) throw new Error("the start script looks for its element in another way");
  const name = `/_app/immutable/boot.${Bun.hash(boot).toString(36)}.js`;
  await writeFile(join(out, name), boot);
  const moved = html.replace(whole, () => "").replace("</head>", () => `<script defer src="${name}"></script></head>`);
  if (/<script(?![^>]*\bsrc=)/.test(moved)) throw new Error("the page has another script of its own");
  await writeFile(page, moved);
}

async function compress(out: string): Promise<void> {
  for (const entry of await readdir(out, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || compressed.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const bytes = await readFile(path);
    if (bytes.length < leastCompressedBytes) continue;
    const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
    await writeFile(`${path}.br`, brotliCompressSync(bytes, { params }));
    await writeFile(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  }
}

/** First part of the path of every page: the folders of `src/routes`, through groups such as `(app)`. */
async function pages(dir = join(here, "src/routes")): Promise<string[]> {
  const folders = (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const found = await Promise.all(
    folders.map(({ name }) => (name.startsWith("(") ? pages(join(dir, name)) : Promise.resolve([name]))),
  );
  return found.flat().sort();
}

/** Builds into `out`, which is replaced as a whole at the end. */
export async function build(out: string): Promise<void> {
  const partial = `${out}.new`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await bundle(partial);
  await moveScript(partial);
  await compress(partial);
  await writeFile(join(partial, "pages.json"), JSON.stringify(await pages()));
  await rm(out, { recursive: true, force: true });
  await rename(partial, out);
}

if (import.meta.main) await build(join(here, "../../builds/dashboard"));
