import { closeSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { errno, ioctl, SystemError } from "../libc.ts";

/** loop(4) and linux/loop.h. */
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_CTL_GET_FREE = 0x4c82;
const flagReadOnly = 1;
const flagAutoClear = 4;
/** `struct loop_info64`. */
const infoBytes = 232;
const infoOffset = 8; // in struct loop_config, after the descriptor and the block size
const configBytes = infoOffset + infoBytes + 64;

/** Between two looks for a free number another process may take it. */
const tries = 50;

/**
 * A loop device that this process holds open. It detaches itself from its file when its last user has closed it, so
 * nothing is left of it whoever is killed.
 */
export type Loop = { readonly fd: number; readonly numbers: string; readonly sectors: number };

/** Attaches a file, up to `sizeLimit` bytes of it. Whoever calls this closes `fd` when somebody else uses the device. */
export function attachLoop(path: string, how: { readOnly: boolean; sizeLimit?: number }): Loop {
  const file = openSync(path, how.readOnly ? "r" : "r+");
  try {
    const limit = how.sizeLimit ?? Math.floor(statSync(path).size / 512) * 512;
    for (let left = tries; ; left--) {
      const loop = tryAttach(file, { path, limit, readOnly: how.readOnly });
      if (loop) return loop;
      if (left === 0) throw new SystemError(`attaching ${path} to a loop device`, errno.EBUSY);
    }
  } finally {
    closeSync(file);
  }
}

function tryAttach(file: number, spec: { path: string; limit: number; readOnly: boolean }): Loop | undefined {
  const control = openSync("/dev/loop-control", "r+");
  const number = (() => {
    try {
      return ioctl(control, LOOP_CTL_GET_FREE, 0, "LOOP_CTL_GET_FREE");
    } finally {
      closeSync(control);
    }
  })();
  const config = new Uint8Array(configBytes);
  const view = new DataView(config.buffer);
  view.setUint32(0, file, true);
  view.setBigUint64(infoOffset + 32, BigInt(spec.limit), true); // lo_sizelimit
  view.setUint32(infoOffset + 52, flagAutoClear | (spec.readOnly ? flagReadOnly : 0), true); // lo_flags
  config.set(new TextEncoder().encode(spec.path).subarray(-63), infoOffset + 56); // lo_file_name, for people
  const fd = openSync(`/dev/loop${number}`, spec.readOnly ? "r" : "r+");
  try {
    ioctl(fd, LOOP_CONFIGURE, config, "LOOP_CONFIGURE");
    return { fd, numbers: numbersOf(`loop${number}`), sectors: spec.limit / 512 };
  } catch (thrown) {
    closeSync(fd);
    if (thrown instanceof SystemError && thrown.errno === errno.EBUSY) return undefined;
    throw thrown;
  }
}

/** Read-only loop devices by the file they show, as far as this process knows. */
const known = new Map<string, number>();

/** The read-only loop device of a file: one for all who use it, found again also after a restart. */
export function sharedLoop(path: string): Loop {
  const file = statSync(path);
  const key = `${file.dev}:${file.ino}`;
  const candidates = known.has(key) ? [known.get(key)!] : [];
  for (const number of [...candidates, ...numbersShowing(path)]) {
    const loop = openIfShows(number, file);
    if (!loop) continue;
    known.set(key, number);
    return loop;
  }
  const loop = attachLoop(path, { readOnly: true });
  known.set(key, Number(loop.numbers.split(":")[1]));
  return loop;
}

function openIfShows(number: number, file: { dev: number; ino: number; size: number }): Loop | undefined {
  const fd = openSync(`/dev/loop${number}`, "r");
  try {
    const info = new Uint8Array(infoBytes);
    ioctl(fd, LOOP_GET_STATUS64, info, "LOOP_GET_STATUS64");
    const view = new DataView(info.buffer);
    const [dev, ino] = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
    const isReadOnly = (view.getUint32(52, true) & flagReadOnly) !== 0;
    if (isReadOnly && Number(dev) === file.dev && Number(ino) === file.ino)
      return { fd, numbers: numbersOf(`loop${number}`), sectors: Math.floor(file.size / 512) };
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown; // ENXIO: it was detached meanwhile
  }
  closeSync(fd);
  return undefined;
}

function* numbersShowing(path: string): Generator<number> {
  for (const name of readdirSync("/sys/block")) {
    if (!name.startsWith("loop")) continue;
    const backing = read(`/sys/block/${name}/loop/backing_file`);
    if (backing === path) yield Number(name.slice(4));
  }
}

const numbersOf = (name: string): string => readFileSync(`/sys/block/${name}/dev`, "utf8").trim();

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined; // a loop device without a file
  }
}
