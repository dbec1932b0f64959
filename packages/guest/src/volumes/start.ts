import { ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { volumesPort } from "@wrenn/contract/core";
import { httpError } from "../http.ts";
import { systemCall } from "../native.ts";
import { isListening } from "../ports.ts";

const initModule = 175; // x86-64

/** The argument that makes the agent's program the volume server. */
export const volumeServer = "volumes";

/**
 * Answers `POST /volumes`: starts the volume server, unless it runs. A kernel that has FUSE as a module is given it in the
 * body; without it the answer is 424, and the host sends it. No template has it, so that none pays for it.
 */
export async function startVolumes(request: Request): Promise<Response> {
  if (!hasFuse()) {
    const module = await request.bytes();
    if (module.length === 0) return httpError(424, "the kernel has no FUSE; send its module");
    systemCall("init_module", initModule, ptr(module), module.length, ptr(new Uint8Array(1)));
  }
  if (!isListening(volumesPort))
    Bun.spawn([process.execPath, volumeServer], {
      ...{ detached: true, stdin: "ignore", stdout: "inherit", stderr: "inherit" },
      cwd: "/",
    }).unref();
  return new Response(null, { status: 204 });
}

const hasFuse = (): boolean => /\tfuse$/m.test(readFileSync("/proc/filesystems", "utf8"));
