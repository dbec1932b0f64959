import { posix } from "node:path";
import type { Given } from "./dockerfile-given.ts";
import { refused, type SecretMount } from "./plan.ts";

/** Where a secret is read that says nothing else (Dockerfile reference, RUN --mount=type=secret). */
const usualFolder = "/run/secrets";

/** The mounts of a RUN: secrets, and those that are an ordinary folder here, with what is said about them. */
export function mountsOf(given: Given): { secrets: SecretMount[]; warnings: string[] } {
  const [secrets, warnings]: [SecretMount[], string[]] = [[], []];
  for (const flag of given.list("mount")) {
    const values = new Map(flag.split(",").map((part) => part.split(/=(.*)/s, 2) as [string, string | undefined]));
    const type = values.get("type") ?? "bind";
    if (type === "secret") secrets.push(secretOf(values, given.line));
    else if (type === "cache" || type === "tmpfs") warnings.push(`RUN --mount=type=${type} is an ordinary folder here`);
    else throw refused(given.line, `RUN --mount=type=${type} is not supported`, "Use COPY, or type=secret.");
  }
  return { secrets, warnings };
}

function secretOf(values: ReadonlyMap<string, string | undefined>, line: number): SecretMount {
  const target = values.get("target") ?? values.get("dst") ?? values.get("destination");
  const env = values.get("env");
  const id = values.get("id") ?? posix.basename(target ?? "");
  if (!id) throw refused(line, "a secret has no id", "Write RUN --mount=type=secret,id=NAME.");
  const path = target ?? (env === undefined ? `${usualFolder}/${id}` : undefined);
  if (path !== undefined && !path.startsWith("/"))
    throw refused(line, `the target "${path}" is not absolute`, "Write it from the root, such as /root/.npmrc.");
  const mode = values.get("mode") ?? "0400";
  if (!/^[0-7]{3,4}$/.test(mode)) throw refused(line, `"${mode}" is no octal mode`, "Write such as mode=0440.");
  const required = values.has("required") ? (values.get("required") ?? "true") : "false";
  const owner = `${number(values.get("uid"), line)}:${number(values.get("gid"), line)}`;
  return { id, target: path, env, isRequired: required === "true" || required === "1", owner, mode };
}

function number(text: string | undefined, line: number): string {
  if (text === undefined || /^\d{1,9}$/.test(text)) return text ?? "0";
  throw refused(line, `"${text}" is no number of a user or group`, "Write such as uid=1000.");
}
