import { expect, test } from "bun:test";
import { Glob } from "bun";
import { WrennError } from "wrenn";
import { inOwnWords, spoken } from "../src/words.ts";

const services = `${import.meta.dir}/../../control/src/services`;

/** Services whose errors no command meets: accounts, keys and channels are the dashboard's and programs'. */
const beyond = /^(?:people|channels)\/|^(?:access|keys)\.ts$|^fleet\/hosts\.ts$/;

test("no remedy that a command may meet names a request: each is said as a command", async () => {
  const found: string[] = [];
  for await (const path of new Glob("**/*.ts").scan(services)) {
    if (beyond.test(path)) continue;
    const source = await Bun.file(`${services}/${path}`).text();
    for (const [, text = ""] of source.matchAll(/remedy:\s*("(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)/g)) {
      const said = spoken(text.replaceAll("\\`", "`").replace(/\$\{\w+\}/g, "name"));
      if (said.includes("/v1/") && !said.includes("/admin/") && !said.includes("/agent/"))
        found.push(`${path}: ${said}`);
    }
  }
  expect(found).toEqual([]);
});

test("what the API says of a request is said of the command line", () => {
  const volume = new WrennError("not_found", 'There is no volume "x".', {
    remedy: "`GET /v1/volumes` lists the team's; make it first.",
  });
  expect(inOwnWords(volume, "wrenn create")).toMatchObject({
    code: "not_found",
    message: 'There is no volume "x".',
    remedy: "`wrenn volume ls` lists the team's; make it first.",
  });
  const refused = new WrennError("invalid_request", 'body field "memory_mb": at least 128 MiB', {
    remedy: "See /docs for the shape of this request.",
    details: { field: "memory_mb" },
  });
  expect(inOwnWords(refused, "wrenn create")).toMatchObject({
    message: "--memory: at least 128 MiB",
    remedy: "See `wrenn create --help`.",
  });
  const other = new Error("broken");
  expect(inOwnWords(other, "wrenn create")).toBe(other);
});
