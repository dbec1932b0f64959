import { closeSync, openSync, unlinkSync } from "node:fs";
import { basename } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import type { Identity } from "../identity/state.ts";
import { systemCall } from "../native.ts";
import { resolvePath } from "../users.ts";
import { fileError } from "./errors.ts";
import type { Written } from "./upload.ts";
import { FileWriter } from "./writer.ts";

const sendfile = 40; // x86-64

/** Bytes copied between two looks at the event loop. */
const bytesPerTurn = 64 * 1024 * 1024;

type ComposeRequest = { sources: string[]; destination: string; username: string };

function parse(body: unknown): ComposeRequest {
  const { source_paths, destination, username = "" } = (body ?? {}) as Record<string, unknown>;
  const isText = (value: unknown): value is string => typeof value === "string";
  if (!Array.isArray(source_paths) || source_paths.length === 0 || !source_paths.every((path) => isText(path) && path))
    throw new WrennError("invalid_request", "source_paths is not a list of paths", { remedy: "Name at least one." });
  if (!isText(destination) || !destination || !isText(username))
    throw new WrennError("invalid_request", "destination is not a path", { remedy: "Name the file to make." });
  return { sources: source_paths, destination, username };
}

/** Answers `POST /files/compose`: joins the sources, in order, into one file, and then removes them. */
export async function compose(request: Request, identity: Identity): Promise<Written> {
  const body = parse(await request.json().catch(() => undefined));
  const user = identity.user(body.username);
  const resolve = (path: string) => resolvePath(path, user, identity.defaultWorkdir);
  const sources = body.sources.map(resolve);
  const destination = resolve(body.destination);
  const writer = new FileWriter(destination, user);
  try {
    for (const source of sources) await append(writer.fd, source);
    writer.commit();
  } catch (thrown) {
    writer.abort();
    throw thrown;
  }
  for (const source of new Set(sources)) if (source !== destination) unlinkSync(source);
  return { path: destination, name: basename(destination), type: "file" };
}

async function append(target: number, source: string): Promise<void> {
  let fd: number | undefined;
  try {
    fd = openSync(source, "r");
    while (systemCall("sendfile", sendfile, target, fd, 0, bytesPerTurn) > 0) await new Promise(setImmediate);
  } catch (thrown) {
    throw fileError(thrown, source);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
