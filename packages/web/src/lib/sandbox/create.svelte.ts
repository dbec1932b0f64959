import type { CreateOptions } from "wrenn";

/** What the create dialog begins with. */
export type Draft = { template?: string };

/** The dialog that makes a sandbox; any page may open it. */
class Create {
  draft = $state.raw<Draft | undefined>(undefined);

  start(draft: Draft = {}): void {
    this.draft = draft;
  }

  close(): void {
    this.draft = undefined;
  }
}

export const create = new Create();

/** Lines such as `NAME=value` as pairs; throws with the line that is none. */
export function readPairs(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Error(`"${line.trim()}" is not NAME=value.`);
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
  );
}

const quoted = (text: string): string => (/^[\w./:@%+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** The same sandbox made on the command line, by the SDK, and by any HTTP client. */
export function createSnippets(options: CreateOptions, server: string): { cli: string; sdk: string; curl: string } {
  const {
    name,
    network,
    template = "base",
    vcpus,
    memoryMiB,
    timeoutMs,
    timeoutAction,
    envs = {},
    metadata = {},
  } = options;
  const flags = [
    name && `--name ${quoted(name)}`,
    `-t ${quoted(template)}`,
    network?.internet === false && "--no-internet",
    ...(network?.allow ?? []).map((rule) => `--allow ${quoted(rule)}`),
    vcpus && `--vcpus ${vcpus}`,
    memoryMiB && `--memory ${memoryMiB}M`,
    timeoutMs && `--timeout ${timeoutMs / 1000}s`,
    timeoutMs && timeoutAction === "kill" && "--timeout-action kill",
    ...Object.entries(envs).map(([name, value]) => `-e ${quoted(`${name}=${value}`)}`),
    ...Object.entries(metadata).map(([name, value]) => `--metadata ${quoted(`${name}=${value}`)}`),
  ].filter(Boolean);
  const body = {
    ...(name && { name }),
    template,
    ...(network && { network }),
    ...(vcpus && { vcpus }),
    ...(memoryMiB && { memory_mb: memoryMiB }),
    ...(timeoutMs && { timeout_sec: timeoutMs / 1000 }),
    ...(timeoutAction && timeoutMs && { timeout_action: timeoutAction }),
    ...(Object.keys(envs).length > 0 && { envs }),
    ...(Object.keys(metadata).length > 0 && { metadata }),
  };
  const given = Object.entries({ name, template, network, vcpus, memoryMiB, timeoutMs, envs, metadata }).filter(
    ([, value]) => value !== undefined && value !== 0 && (typeof value !== "object" || Object.keys(value).length > 0),
  );
  return {
    cli: `wrenn create ${flags.join(" ")}`,
    sdk: `import { Sandbox } from "wrenn";\n\nconst sandbox = await Sandbox.create(${JSON.stringify(Object.fromEntries(given), undefined, 2).replace(/"(\w+)":/g, "$1:")});`,
    curl: `curl -X POST ${server}/v1/capsules \\\n  -H "X-API-Key: $WRENN_API_KEY" -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body)}'`,
  };
}
