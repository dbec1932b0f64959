import { dlopen, FFIType, ptr } from "bun:ffi";
import { closeSync, constants, mkdirSync, openSync, read, readFileSync, statSync, writeSync } from "node:fs";
import { promisify } from "node:util";
import { check } from "../native.ts";
import { Files } from "./files.ts";
import { type FuseRequest, failureOf, initOf, largestRequestBytes, operation, requestOf } from "./fuse.ts";
import type { Line } from "./line.ts";

const readAt = promisify(read);
const { i32, ptr: pointer, u64 } = FFIType;
const load = () =>
  dlopen("libc.so.6", {
    mount: { args: [pointer, pointer, pointer, u64, pointer], returns: i32 },
    umount2: { args: [pointer, i32], returns: i32 },
  }).symbols;
let loaded: ReturnType<typeof load> | undefined;
const libc = () => {
  loaded ??= load();
  return loaded;
};
const text = (value: string) => Buffer.from(`${value}\0`);

/** What mounts of ours are called in `/proc/mounts`. */
const typeName = "fuse.wrenn";
/** MS_NOSUID and MS_NODEV: a volume's files may come from another sandbox. */
const flags = 2n | 4n;
const detach = 2; // MNT_DETACH

/** One volume where its guest sees it. */
export class Mount {
  readonly #fd: number;
  readonly #files: Files;

  /** Mounts; throws a `SystemError`, or what making the folder throws. What a former server left there goes first. */
  constructor(
    readonly path: string,
    line: Line,
    owned: boolean,
  ) {
    detachFormer(path);
    mkdirSync(path, { recursive: true });
    if (!statSync(path).isDirectory()) throw new Error(`${path} is no folder`);
    this.#files = new Files((call, body) => line.ask(path, call, body), owned);
    this.#fd = openSync("/dev/fuse", constants.O_RDWR);
    try {
      mountFuse(path, this.#fd);
    } catch (thrown) {
      closeSync(this.#fd);
      throw thrown;
    }
    void this.#serve(line);
  }

  /** Takes it away; what is open keeps what it has, and fails. */
  [Symbol.dispose](): void {
    unmount(this.path);
    closeSync(this.#fd);
  }

  /**
   * A read waits in a thread of Bun's pool, which has nothing else to do here: the kernel wants room for the largest
   * request in every read, and Bun's streams give what is left of theirs.
   */
  async #serve(line: Line): Promise<void> {
    const buffer = Buffer.allocUnsafe(largestRequestBytes);
    for (;;) {
      const got = await readAt(this.#fd, buffer, 0, buffer.length, null).catch((thrown) => (isOver(thrown) ? 0 : -1));
      if (got === 0) return;
      if (got === -1) continue;
      const request = requestOf(Buffer.from(buffer.subarray(0, got.bytesRead)));
      if (request.operation === operation.init) this.#answer(initOf(request.unique));
      else if (request.operation === operation.interrupt) this.#interrupt(request, line);
      else void this.#files.answer(request).then((message) => message && this.#answer(message));
    }
  }

  /** A caller is killed while the host is away: nothing would ever let it go. */
  #interrupt({ view }: FuseRequest, line: Line): void {
    if (!line.isOpen) this.#answer(failureOf(view.getBigUint64(0, true), 4));
  }

  #answer(message: Uint8Array): void {
    try {
      writeSync(this.#fd, message);
    } catch {
      // ENOENT: nobody waits for it any more
    }
  }
}

function mountFuse(path: string, fd: number): void {
  const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions`;
  // Named, so that none is collected before the call.
  const [source, target, type, data] = ["volume", path, typeName, options].map(text);
  check("mount", libc().mount(ptr(source!), ptr(target!), ptr(type!), flags, ptr(data!)));
}

function unmount(path: string): void {
  const target = text(path);
  libc().umount2(ptr(target), detach);
}

/** Unmounted, or closed; anything else is of one request, such as one that was given up meanwhile. */
const isOver = (thrown: unknown): boolean => ["ENODEV", "EBADF"].includes((thrown as { code: string }).code);

/** Takes away what a server that was killed had mounted there: everything in it fails, and nothing else can be mounted. */
function detachFormer(path: string): void {
  const mounted = readFileSync("/proc/self/mounts", "utf8").split("\n");
  for (const line of mounted) {
    const [, at = "", type] = line.split(" ");
    if (type === typeName && unescaped(at) === path) unmount(path);
  }
}

/** Blanks and the like are octal in `/proc/mounts` (proc(5)). */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
