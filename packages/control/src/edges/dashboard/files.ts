import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

/** One file of the dashboard in every form in which it can be sent. */
export type Asset = {
  type: string;
  etag: string;
  /** Whether its name changes with its content. */
  isImmutable: boolean;
  plain: Uint8Array<ArrayBuffer>;
  br: Uint8Array<ArrayBuffer> | undefined;
  gzip: Uint8Array<ArrayBuffer> | undefined;
};

/** The built dashboard: its files by path, and the first part of the path of every page it has. */
export type Built = { files: ReadonlyMap<string, Asset>; pages: ReadonlySet<string> };

/** The page that every address of the dashboard answers with; it finds out itself which one is asked for. */
export const indexPath = "/index.html";

const types: Record<string, string> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json",
  svg: "image/svg+xml",
  png: "image/png",
  woff2: "font/woff2",
};

/** Folder of the built dashboard: beside the compiled program, else where `make build` puts it. */
export const defaultDashboardDir = (): string =>
  import.meta.path.startsWith("/$bunfs/")
    ? join(dirname(process.execPath), "dashboard")
    : join(import.meta.dir, "../../../../../builds/dashboard");

/** Reads a built dashboard into memory, so that a new build beside a running server takes nothing from it; `undefined` when there is none. */
export async function readDashboard(dir: string): Promise<Built | undefined> {
  const listed = await readFile(join(dir, "pages.json"), "utf8").catch(() => undefined);
  if (listed === undefined) return undefined;
  const names = (await readdir(dir, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const all = new Set(names);
  const plain = names.filter((name) => !/\.(br|gz)$/.test(name) && !name.endsWith("/pages.json"));
  const read = async (name: string): Promise<[string, Asset]> => {
    const optional = (path: string) => (all.has(path) ? bytes(path) : undefined);
    const [content, br, gzip] = await Promise.all([bytes(name), optional(`${name}.br`), optional(`${name}.gz`)]);
    const path = name.slice(dir.length);
    const asset: Asset = {
      type: types[path.slice(path.lastIndexOf(".") + 1)] ?? "application/octet-stream",
      etag: `"${Bun.hash(content).toString(36)}"`,
      isImmutable: path.startsWith("/_app/immutable/"),
      plain: content,
      br,
      gzip,
    };
    return [path, asset];
  };
  return { files: new Map(await Promise.all(plain.map(read))), pages: new Set(JSON.parse(listed) as string[]) };
}

const bytes = async (path: string): Promise<Uint8Array<ArrayBuffer>> => new Uint8Array(await readFile(path));
