import type { processes, rest } from "@wrenn/contract";

/** More output of one stream than this is dropped, and read on so that the command is not held up. */
const maxBytes = 16 * 1024 * 1024;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

type Encoded = Pick<rest.ExecResult, "stdout" | "stderr" | "encoding"> & { truncated: boolean };

/** Collects what a command prints, in bounded memory. */
export class Output {
  readonly #stdout = new Pile();
  readonly #stderr = new Pile();

  /** Takes one event's data. */
  add(data: processes.ProcessEvent_DataEvent["output"]): void {
    if (data.case === "stdout") this.#stdout.add(data.value);
    else if (data.case === "stderr") this.#stderr.add(data.value);
  }

  /** Both streams as text, or both as base64 when either is not UTF-8. A cut within a character does not make it base64. */
  encode(): Encoded {
    const truncated = this.#stdout.cut || this.#stderr.cut;
    const piles = [this.#stdout, this.#stderr].map((pile) => pile.bytes());
    const texts = piles.map(decode);
    const [stdout, stderr] = texts;
    if (stdout !== undefined && stderr !== undefined) return { stdout, stderr, encoding: "utf-8", truncated };
    const [out, err] = piles.map((bytes) => Buffer.from(bytes).toString("base64"));
    return { stdout: out!, stderr: err!, encoding: "base64", truncated };
  }

  /** The output as details of an error, when it is text and both streams together have at most `limit` bytes. */
  partial(limit: number): Record<string, string> | undefined {
    if (this.#stdout.size + this.#stderr.size > limit) return undefined;
    const { stdout, stderr, encoding } = this.encode();
    return encoding === "utf-8" ? { stdout, stderr } : undefined;
  }
}

class Pile {
  readonly #chunks: Uint8Array[] = [];
  size = 0;
  cut = false;

  add(chunk: Uint8Array): void {
    const left = maxBytes - this.size;
    if (chunk.length > left) this.cut = true;
    if (left === 0) return;
    // A message's bytes are a view of its whole frame: a small copy lets go of the rest.
    const kept = chunk.length > left ? chunk.slice(0, left) : chunk;
    this.#chunks.push(kept);
    this.size += kept.length;
  }

  /** What was kept; of a cut pile, up to the end of its last whole character. */
  bytes(): Uint8Array {
    const all = Buffer.concat(this.#chunks);
    return this.cut ? all.subarray(0, wholeLength(all)) : all;
  }
}

/** Length without a character that was cut: at most three trailing bytes belong to one that is not complete. */
function wholeLength(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(4, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needs > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}
