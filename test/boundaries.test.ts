import { expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";

/** Who may import whom: the arrows of the map in docs/ARCHITECTURE.md. */
const mayImport: Record<string, readonly string[]> = {
  contract: [],
  guest: ["contract"],
  host: ["contract"],
  control: ["contract"],
  sdk: ["contract"],
  cli: ["sdk"],
  web: ["sdk"],
};

const packageOf = (specifier: string) => (specifier === "wrenn" ? "sdk" : /^@wrenn\/(\w+)/.exec(specifier)?.[1]);

const imports = (source: string) =>
  [...source.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]!);

for (const [from, allowed] of Object.entries(mayImport))
  test(`${from} imports ${allowed.join(", ") || "nothing of ours"}`, async () => {
    const found: string[] = [];
    for await (const path of new Glob(`packages/${from}/src/**/*.ts`).scan(`${import.meta.dir}/..`))
      for (const specifier of imports(await Bun.file(`${import.meta.dir}/../${path}`).text())) {
        const to = packageOf(specifier);
        if (to && to !== from && !allowed.includes(to)) found.push(`${path} imports ${specifier}`);
        if (/^(\.\.\/){2,}.*packages|\.\.\/\.\.\/\w+\/src/.test(specifier))
          found.push(`${path} reaches into ${specifier}`);
        if (from === "sdk" && /^bun(:|$)/.test(specifier)) found.push(`${path} uses Bun's ${specifier}`);
      }
    expect(found).toEqual([]);
  });

/** The files that a file of ours imports by their path, types included: a reader follows those too. */
function neighboursOf(path: string, source: string): string[] {
  return [...source.matchAll(/^(?:import|export)\b[^"']*?\bfrom "(\.[^"]+)";/gm)].map(([, to]) =>
    join(path, "..", to!),
  );
}

/** The first way that leads from a file back to itself, as its files. */
function circleIn(arrows: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const cleared = new Set<string>();
  const from = (path: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path];
    if (cleared.has(path)) return undefined;
    for (const next of arrows.get(path) ?? []) {
      const circle = from(next, [...way, path]);
      if (circle) return circle;
    }
    cleared.add(path);
    return undefined;
  };
  for (const path of arrows.keys()) {
    const circle = from(path, []);
    if (circle) return circle;
  }
  return undefined;
}

for (const name of Object.keys(mayImport))
  test(`no files of ${name} import each other in a circle`, async () => {
    const arrows = new Map<string, string[]>();
    for await (const path of new Glob(`packages/${name}/src/**/*.ts`).scan(`${import.meta.dir}/..`))
      arrows.set(path, neighboursOf(path, await Bun.file(`${import.meta.dir}/../${path}`).text()));
    expect(circleIn(arrows)).toBeUndefined();
  });

test("a circle of three is found, and its way told", () => {
  const arrows = new Map([
    ["a", ["b", "d"]],
    ["b", ["c"]],
    ["c", ["a"]],
    ["d", []],
  ]);
  expect(circleIn(arrows)).toEqual(["a", "b", "c", "a"]);
});
