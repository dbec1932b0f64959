import { WrennError } from "@wrenn/contract";
import type { TemplateFacts } from "@wrenn/contract/template-file";
import type { Fleet } from "../../hosts/fleet.ts";
import { hostError } from "../../hosts/host.ts";
import type { BuildStore } from "../../store/builds/queue.ts";
import type { BuildRow, Defaults } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { shellOf } from "./actions.ts";
import type { Command, Plan } from "./plan.ts";
import type { Versions } from "./versions.ts";

/** Templates as files, which other installations import. */
export class Exports {
  constructor(readonly ground: { versions: Versions; queue: BuildStore; fleet: Fleet }) {}

  /** A version that the team may start from, as an OCI artifact in a tar. Throws `not_found`. */
  async open(caller: Caller, name: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const { versions, fleet } = this.ground;
    const built = await versions.find(caller.team, name);
    if (!built)
      throw new WrennError("not_found", `There is no template "${name}" that was built.`, {
        remedy: "`GET /v1/templates` lists those there are; the installation's own come with it.",
        details: { template: name },
      });
    const { snapshot, build } = built;
    try {
      return await fleet.host(snapshot.hostId).export(snapshot.id, await this.#facts(name, build), signal);
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  async #facts(name: string, build: BuildRow): Promise<TemplateFacts> {
    const { vcpus, memoryMib, defaults, provenance: from } = build;
    const { user, workdir, env } = defaults;
    const { starts, ready } = await this.#running(build);
    return {
      ...{ name, vcpus, memoryMib, user, workdir, env, from },
      ...(starts.length > 0 && { start: together(starts) }),
      ...(ready && { ready }),
    };
  }

  /** What a version has running: its own programs, and those of the templates that it was built from. */
  async #running(build: BuildRow): Promise<{ starts: string[]; ready: string | undefined }> {
    const below = /^build:(.+)$/.exec(build.provenance.at(-1)?.digest ?? "")?.[1];
    const base = below ? await this.ground.queue.find(below) : undefined;
    const inherited = base ? await this.#running(base) : { starts: [], ready: undefined };
    const { plan, defaults } = build;
    return {
      starts: [...inherited.starts, ...commandsOf(plan).map((command) => line(plan, command, defaults))],
      ready: plan.ready ? line(plan, plan.ready.command, defaults) : inherited.ready,
    };
  }
}

const commandsOf = ({ stages, start }: Plan): Command[] => [
  ...(stages.at(-1)?.instructions ?? []).flatMap((one) => (one.do === "start" ? [one.command] : [])),
  ...(start ? [start] : []),
];

/** A command as a line for a shell that knows neither its folder nor its variables. */
function line({ syntax }: Plan, command: Command, { workdir, env }: Defaults): string {
  const pairs = Object.entries(env).filter(([name]) => /^[a-zA-Z_]\w*$/.test(name));
  const set = pairs.map(([name, value]) => `export ${name}=${quoted(value)}; `).join("");
  const argv = "shell" in command ? [...shellOf(syntax), command.shell] : command.argv;
  return `cd ${quoted(workdir || "/")}; ${set}exec ${argv.map(quoted).join(" ")}`;
}

const together = (lines: readonly string[]): string =>
  lines.length === 1 ? lines[0]! : `${lines.map((one) => `( ${one}\n) &`).join(" ")} wait`;

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
