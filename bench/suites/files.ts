import { randomFillSync } from "node:crypto";
import type { Suite } from "../context.ts";
import type { Pledge } from "../ledger.ts";
import { interleaved, type Side, timed } from "../measure.ts";

const mib = 256;
const bytes = mib * 2 ** 20;

/** On the guest's disk: its memory is smaller than two such files. */
const path = "/var/tmp/bench";

/** What is left after two programs have forwarded every byte. */
const least = 0.6;

const pledge = (id: string, text: string): Pledge => ({
  ...{ id, text: `a file of ${mib} MiB ${text} the sandbox, through the whole chain`, unit: "MiB/s", better: "higher" },
  ...{ against: "the same straight to the guest agent", target: { times: least } },
});

/** Large files between client and guest: what forwarding them costs. */
export const files: Suite = {
  name: "files",
  pledges: [pledge("file-up-256", "into"), pledge("file-down-256", "out of")],
  async run(context) {
    const world = await context.world();
    await using sandbox = await world.create();
    const { port, token } = await world.inside(sandbox);
    const direct = `http://127.0.0.1:${port}/files?path=${path}&username=root`;
    // Not compressed, as the client asks for it; and noise, which no layer can make smaller.
    const type = { "Content-Type": "application/octet-stream", "Accept-Encoding": "identity" };
    const headers = { ...type, "X-Access-Token": token };
    const contents = randomFillSync(new Uint8Array(bytes));
    const plan = { runs: context.runs(2), warmUps: 0 }; // seconds each, so few
    // What the guest still writes to its disk would slow whichever side comes next.
    const settled =
      (side: Side): Side =>
      async () => {
        await sandbox.commands.exec("/bin/sync", [], { user: "root" });
        return side();
      };

    const up = {
      chain: settled(() => speed(() => sandbox.files.write(path, contents, { user: "root" }))),
      direct: settled(() =>
        speed(async () => {
          const answer = await fetch(direct, { method: "POST", headers, body: contents });
          await answer.arrayBuffer();
          if (!answer.ok) throw new Error(`the guest agent answered ${answer.status}`);
        }),
      ),
    };
    const sent = await interleaved(up, plan); // also makes the file that is read afterwards
    context.keep("file-up-256", { values: sent.chain, baseline: sent.direct });
    if (!context.wants("file-down-256")) return;

    const down = {
      chain: settled(() =>
        speed(async () => drain(await sandbox.files.read(path, { format: "stream", user: "root" }))),
      ),
      direct: settled(() => speed(async () => drain((await fetch(direct, { headers })).body!))),
    };
    const got = await interleaved(down, { runs: context.runs(3), warmUps: 1 });
    context.keep("file-down-256", { values: got.chain, baseline: got.direct });
  },
};

/** MiB a second. */
const speed = async (act: () => Promise<unknown>): Promise<number> => mib / ((await timed(act)) / 1000);

async function drain(stream: ReadableStream<Uint8Array>): Promise<void> {
  let length = 0;
  for await (const chunk of stream) length += chunk.byteLength;
  if (length !== bytes) throw new Error(`${length} bytes came, not ${bytes}`);
}
