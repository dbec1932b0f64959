/**
 * Prints the facts of an image (user, folder, environment) for what `docker container inspect` says of a container.
 *
 * Usage: bun images/facts.ts INSPECTED.json
 */
type Inspected = { Config?: { User?: string; WorkingDir?: string; Env?: string[] | null } }[];

const [path] = process.argv.slice(2);
if (!path) throw new Error("usage: bun images/facts.ts INSPECTED.json");

const [{ Config: config = {} } = {}] = (await Bun.file(path).json()) as Inspected;
const env = (config.Env ?? []).flatMap((text) => {
  const at = text.indexOf("=");
  return at > 0 ? [[text.slice(0, at), text.slice(at + 1)]] : [];
});
const facts = {
  defaultUser: config.User?.split(":")[0] || "root",
  defaultWorkdir: config.WorkingDir || "/",
  env: Object.fromEntries(env),
};
console.log(JSON.stringify(facts));
