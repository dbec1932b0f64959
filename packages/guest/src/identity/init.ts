import { hostname } from "node:os";
import { envdVersion, type InitRequest, type InitResponse, version, WrennError } from "@wrenn/contract/core";
import { forget } from "../processes/history.ts";
import type { Registry } from "../processes/registry.ts";
import { trust, trustVariables } from "./certificates.ts";
import { growRoot } from "./disk.ts";
import { identityFile, sandboxVariables, writeSandboxFiles } from "./environment.ts";
import { runRestoreHooks } from "./hooks.ts";
import { reseedKernel, setClock, setHostname, writeHostname, writeMachineId } from "./machine.ts";
import { nanosecondsOf, parseInit } from "./request.ts";
import type { Identity } from "./state.ts";

/** What takes an identity. `ownsMachine` is false on a machine that is not the agent's own: nothing of it is changed. */
export type Bearer = { readonly identity: Identity; readonly registry: Registry; readonly ownsMachine: boolean };

/**
 * Answers `POST /init`: authorizes, checks everything, then changes. A call that is not newer than the last changes
 * nothing; one that carries entropy then fails, because a restore that did not take its identity must not be used.
 * The names on the disk are written between the answer and the next request, of which none is served when that fails.
 */
export async function initialize(request: Request, { identity, registry, ownsMachine }: Bearer): Promise<Response> {
  const init = parseInit(Buffer.from(await request.bytes()).toString());
  authorize(request, init, identity);
  const at = init.timestamp === undefined ? undefined : nanosecondsOf(init.timestamp);
  if (!identity.advanceTo(at)) {
    if (init.entropy === undefined) return new Response(null, { status: 204 });
    throw new WrennError("conflict", "a newer /init was already accepted", { remedy: "Send the current time." });
  }
  if (ownsMachine) becomeMachine(init, at);
  if (ownsMachine && init.diskBytes !== undefined) await growRoot(init.diskBytes);
  if (ownsMachine && init.caBundle) {
    trust(init.caBundle);
    Object.assign(identity.envs, trustVariables);
  }
  identity.take(init);
  Object.assign(identity.envs, ownsMachine || init.sandboxId ? sandboxVariables(init) : {}, init.envVars);
  if (ownsMachine) identity.save(identityFile);
  if (ownsMachine) setImmediate(() => complete(init, identity));
  if (init.entropy === undefined) return new Response(null, { status: 204 });
  if (identity.isRehearsing) forgetHappenings(registry);
  identity.isRehearsing = init.rehearsal === true;
  const reseeded = ownsMachine && reseedKernel(Buffer.from(init.entropy, "base64"));
  const timestamp = new Date().toISOString();
  return Response.json({ reseeded, timestamp, hostname: hostname(), version, envdVersion } satisfies InitResponse);
}

/** The rest of an accepted call, before anything else happens in this process. */
function complete(init: InitRequest, identity: Identity): void {
  try {
    if (init.hostname !== undefined) writeHostname(init.hostname);
    if (init.machineId !== undefined) writeMachineId(init.machineId);
  } catch (thrown) {
    console.error("the identity could not be written down", thrown);
    identity.fail(thrown);
    return;
  }
  if (init.entropy !== undefined) void runRestoreHooks(identity.envs, identity.isRehearsing);
}

/** A sandbox knows nothing of the commands that its machine practised with. */
function forgetHappenings(registry: Registry): void {
  registry.forgetEnded();
  forget();
}

/** The current token must be shown to change anything: in the header, or as the token that the body sets again. */
function authorize(request: Request, init: InitRequest, identity: Identity): void {
  if (identity.accepts(request.headers.get("x-access-token")) || identity.accepts(init.accessToken ?? null)) return;
  throw new WrennError("unauthorized", "access token does not match", { remedy: "Send the sandbox's current token." });
}

function becomeMachine(init: InitRequest, at: bigint | undefined): void {
  if (at !== undefined) setClock(at);
  if (init.hostname !== undefined) setHostname(init.hostname);
  if (init.sandboxId !== undefined || init.templateId !== undefined) writeSandboxFiles(init);
}
