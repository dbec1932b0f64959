import { readFile, writeFile } from "node:fs/promises";

const page = new URL("../../docs/e2b.md", import.meta.url).pathname;
type Language = "js" | "python";
type Outcome = { readonly all: readonly string[]; readonly seen: ReadonlySet<string> };

/** Methods that answer otherwise than on E2B's own servers, and how. */
export const exceptions: Record<Language, Readonly<Record<string, string>>> = {
  js: {
    "Sandbox.betaPause": "an older name of `pause`",
    "sandbox.betaPause": "an older name of `pause`",
  },
  python: {
    "sandbox.beta_create": "an older name of `create`",
    "sandbox.beta_pause": "an older name of `pause`",
    "async sandbox.beta_pause": "an older name of `pause`",
  },
};

/** Compares the part of the page that lists `language` with what was seen; `UPDATE_DOCS=1` writes it instead. */
export async function checkTable(language: Language, outcome: Outcome): Promise<void> {
  const text = await readFile(page, "utf8");
  const [begin, end] = [`<!-- ${language}: made by the tests -->\n`, `<!-- ${language}: end -->`];
  const from = text.indexOf(begin) + begin.length;
  const to = text.indexOf(end);
  if (from < begin.length || to < from) throw new Error(`docs/e2b.md has no place for ${language}`);
  const table = tableOf(language, outcome);
  if (process.env.UPDATE_DOCS) await writeFile(page, text.slice(0, from) + table + text.slice(to));
  else if (text.slice(from, to) !== table)
    throw new Error(`docs/e2b.md is out of date: run this test with UPDATE_DOCS=1\n${table}`);
}

function tableOf(language: Language, { all, seen }: Outcome): string {
  const rows = all.map((name) => `| \`${name}\` | ${seen.has(name) ? "works" : exceptions[language][name]} |\n`);
  return `| method | |\n|---|---|\n${rows.join("")}`;
}
