/**
 * A Firecracker without a guest: the API over its socket, held to its description and to the order in which the real one
 * takes requests; memory is mapped from the file as there. Run by `fakeFirecracker` in the place of the program. What it
 * is asked is written to `requests` in the folder it is given; `faults.json` there says which calls fail, and how.
 */
import { appendFileSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { truncate } from "node:fs/promises";
import { parseArgs } from "node:util";
import { crc64 } from "../../src/drivers/firecracker/device-state.ts";
import { wrongWith } from "./description.ts";
import type { Fault } from "./fake.ts";

const [dir = "", ...args] = process.argv.slice(2);
const { values } = parseArgs({ args, options: { "api-sock": { type: "string" }, id: { type: "string" } } });

let state: "Not started" | "Running" | "Paused" = "Not started";
let memoryMib = 0;
let memory: Uint8Array | undefined;

/** How much has arrived on the tap of a stopped machine: its VMM takes it, and both state and memory tell of it. */
let arrived = 0;
setInterval(() => {
  if (!memory || state !== "Paused") return;
  new DataView(memory.buffer).setUint32(2 * 4096, ++arrived, true);
}, 1);

/** A state with its sum. */
function devices(): Uint8Array {
  const bytes = new Uint8Array(16 + 8).fill(123, 0, 16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, arrived, true);
  view.setBigUint64(16, crc64(bytes.subarray(0, 16)), true);
  return bytes;
}

/** What must be so before a call; the real one refuses it otherwise. */
const isDue = (call: string): boolean => {
  if (call === "GET /" || call === "PUT /mmds") return true;
  if (call === "PATCH /vm" || call.startsWith("PATCH")) return state !== "Not started";
  if (call === "PUT /snapshot/create") return state === "Paused";
  return state === "Not started";
};

async function act(call: string, body: Record<string, unknown>): Promise<void> {
  if (call.endsWith("/drives/rootfs") && body.path_on_host) openSync(String(body.path_on_host), "r+");
  if (call === "PUT /machine-config") memoryMib = Number(body.mem_size_mib);
  if (call === "PATCH /vm") state = body.state === "Paused" ? "Paused" : "Running";
  if (call === "PUT /actions") state = "Running";
  if (call === "PUT /snapshot/load") {
    const { backend_path: path } = body.mem_backend as { backend_path: string };
    openSync("disk", "r+"); // the name that the snapshot of this driver's machines holds
    memory = Bun.mmap(path, { shared: false });
    memory[4096] = 7; // what a guest does: a page of its own
    state = body.resume_vm ? "Running" : "Paused";
  }
  if (call === "PUT /snapshot/create") {
    writeFileSync(String(body.snapshot_path), devices()); // first, as there
    writeFileSync(String(body.mem_file_path), ""); // waits, as there, when this is a pipe that nobody reads
    await truncate(String(body.mem_file_path), memory?.length ?? memoryMib * 2 ** 20);
  }
}

const faultOf = (call: string): Fault | undefined =>
  (JSON.parse(readFileSync(`${dir}/faults.json`, "utf8")) as Record<string, Fault>)[call];

async function answer(request: Request): Promise<Response> {
  const call = `${request.method} ${new URL(request.url).pathname}`;
  const body = request.method === "GET" ? undefined : ((await request.json()) as Record<string, unknown>);
  appendFileSync(`${dir}/requests`, `${JSON.stringify({ call, body })}\n`);
  const fault = faultOf(call);
  if (fault === "silence") await new Promise(() => {});
  if (fault === "death") process.kill(process.pid, "SIGKILL");
  if (fault === "refusal") return Response.json({ fault_message: "scripted refusal" }, { status: 400 });
  const wrong = wrongWith(call, body) ?? (isDue(call) ? undefined : `${call} is not allowed when ${state}`);
  if (wrong) return Response.json({ fault_message: wrong }, { status: 400 });
  await act(call, body ?? {});
  if (call === "GET /") return Response.json({ id: values.id, state, vmm_version: "1.16.1" });
  return new Response(null, { status: 204 });
}

Bun.serve({
  unix: values["api-sock"]!,
  fetch: (request) =>
    answer(request).catch((thrown) => Response.json({ fault_message: `the fake failed: ${thrown}` }, { status: 500 })),
});
