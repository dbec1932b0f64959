import { mkdtemp, rm } from "node:fs/promises";
import type { Context, Suite } from "../context.ts";
import type { Pledge } from "../ledger.ts";
import { type Connection, request, type Source } from "../lib/http.ts";
import { me, Server } from "../lib/servers.ts";
import { interleaved, timed } from "../measure.ts";

const mib = 512;
const bytes = mib * 2 ** 20;

const pledge = (id: string, text: string, limits: { given: number; limit: number }): Pledge => ({
  ...{ id, text: `guest agent: ${text}, ${mib} MiB`, unit: "MiB/s", better: "higher" },
  ...{ against: "best of the compared agents", given: limits.given, target: { absolute: limits.limit } },
});

/** Large files to and from the guest agent, on this machine, in memory: a disk would be what is measured. */
export const envdFiles: Suite = {
  name: "envd-files",
  pledges: [
    pledge("envd-upload-multipart", "upload as multipart", { given: 614, limit: 614 }),
    pledge("envd-upload-octet", "upload as octet-stream", { given: 1002, limit: 1000 }),
    pledge("envd-download", "download", { given: 2973, limit: 3000 }),
  ],
  async run(context) {
    const folder = await mkdtemp("/dev/shm/wrenn-bench-");
    try {
      await measure(context, folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

async function measure(context: Context, folder: string): Promise<void> {
  const file = `${folder}/file`;
  await Bun.write(file, new Uint8Array(bytes));
  await using agent = await Server.guestAgent();
  await using bare = await Server.bare(file);
  using toAgent = await agent.connect();
  using toBare = await bare.connect();
  const plan = { runs: context.runs(10), warmUps: 1 };

  for (const [id, isMultipart] of [
    ["envd-upload-multipart", true],
    ["envd-upload-octet", false],
  ] as const) {
    if (!context.wants(id)) continue;
    const upload = (to: Connection, path: string) => async () => {
      await rm(`${folder}/up`, { force: true });
      return speed(() => send(to, path, isMultipart));
    };
    const sides = { agent: upload(toAgent, filesPath(`${folder}/up`)), bare: upload(toBare, "/upload") };
    const found = await interleaved(sides, plan);
    const arrived = Bun.file(`${folder}/up`).size;
    if (arrived !== bytes && arrived !== 0) throw new Error(`the uploaded file has ${arrived} bytes, not ${bytes}`);
    context.keep(id, {
      values: found.agent,
      reference: { what: "bare Bun.serve that drops the body", values: found.bare },
    });
  }
  if (context.wants("envd-download")) {
    const download = (to: Connection, path: string) => () =>
      speed(async () => {
        const answer = await to.send(request(`GET ${path}`, { Authorization: `Basic ${btoa(`${me}:`)}` }));
        if (answer.bytes !== bytes) throw new Error(`${answer.bytes} bytes came, not ${bytes}`);
      });
    const sides = { agent: download(toAgent, filesPath(file)), bare: download(toBare, "/file") };
    const found = await interleaved(sides, { runs: context.runs(20), warmUps: 2 });
    context.keep("envd-download", { values: found.agent, reference: { what: "bare Bun.serve", values: found.bare } });
  }
}

const filesPath = (path: string): string => `/files?path=${encodeURIComponent(path)}&username=${me}`;

/** MiB a second. */
const speed = async (act: () => Promise<unknown>): Promise<number> => mib / ((await timed(act)) / 1000);

const piece = new Uint8Array(1 << 20);
const boundary = "bench-boundary";

function send(to: Connection, path: string, isMultipart: boolean): Promise<unknown> {
  const user = { Authorization: `Basic ${btoa(`${me}:`)}` };
  const before = Buffer.from(
    `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="up"\r\nContent-Type: application/octet-stream\r\n\r\n`,
  );
  const after = Buffer.from(`\r\n--${boundary}--\r\n`);
  const body: Source = {
    length: isMultipart ? before.length + bytes + after.length : bytes,
    *pieces() {
      if (isMultipart) yield before;
      for (let i = 0; i < mib; i++) yield piece;
      if (isMultipart) yield after;
    },
  };
  const type = isMultipart ? `multipart/form-data; boundary=${boundary}` : "application/octet-stream";
  return to.send(request(`POST ${path}`, { ...user, "Content-Type": type }, body.length), undefined, body);
}
