import { expect, test } from "bun:test";
import { Glob } from "bun";

/** Who may import whom: the arrows of the map in docs/ARCHITECTURE.md. */
export const mayImport: Record<string, readonly string[]> = {
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
