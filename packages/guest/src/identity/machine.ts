import { ptr } from "bun:ffi";
import { closeSync, openSync, readFileSync } from "node:fs";
import { libc, systemCall } from "../native.ts";
import { overwrite } from "./overwrite.ts";

const number = { clock_settime: 227, sethostname: 170 }; // x86-64
const realTime = 0; // CLOCK_REALTIME

/** A smaller difference stays: setting the clock is a jump for every program of the guest. */
const toleratedNs = 50_000_000n;

/** Sets the wall clock when it differs from `nanoseconds` by more than 50 ms. Throws a `SystemError`. */
export function setClock(nanoseconds: bigint): void {
  const difference = nanoseconds - BigInt(Date.now()) * 1_000_000n;
  if (difference <= toleratedNs && difference >= -toleratedNs) return;
  const time = new BigInt64Array([nanoseconds / 1_000_000_000n, nanoseconds % 1_000_000_000n]);
  systemCall("clock_settime", number.clock_settime, realTime, ptr(time));
}

/** Sets the host name, until the next boot. Throws a `SystemError`. */
export function setHostname(name: string): void {
  const bytes = Buffer.from(name);
  systemCall("sethostname", number.sethostname, ptr(bytes), bytes.length);
}

/** Writes the host name down for the next boot, and lets it resolve. */
export function writeHostname(name: string): void {
  overwrite("/etc/hostname", `${name}\n`);
  overwrite("/etc/hosts", withOwnName(readIfThere("/etc/hosts"), name));
}

const ownAddress = "127.0.1.1"; // Debian's convention for a host's own name

/** The text of `/etc/hosts` in which {@link ownAddress} has exactly `name`. */
export function withOwnName(hosts: string, name: string): string {
  const others = hosts.split("\n").filter((line) => line.trim().split(/\s+/)[0] !== ownAddress && line.trim() !== "");
  return [...others, `${ownAddress}\t${name}`, ""].join("\n");
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "127.0.0.1\tlocalhost\n";
  }
}

/** Writes `/etc/machine-id`. */
export function writeMachineId(id: string): void {
  overwrite("/etc/machine-id", `${id}\n`, 0o444);
}

const addEntropy = 0x4008_5203n; // RNDADDENTROPY: struct rand_pool_info { int entropy_count; int buf_size; __u32 buf[]; }
const reseed = 0x5207n; // RNDRESEEDCRNG

/**
 * Gives the kernel's random generator `bytes` and makes it use them at once: a restored memory image holds the same
 * generator state as every other restore of it. True when the kernel confirmed both.
 */
export function reseedKernel(bytes: Uint8Array): boolean {
  const pool = Buffer.alloc(8 + bytes.length);
  pool.writeInt32LE(bytes.length * 8, 0);
  pool.writeInt32LE(bytes.length, 4);
  pool.set(bytes, 8);
  const fd = openSync("/dev/urandom", "r+");
  try {
    return libc().ioctl(fd, addEntropy, ptr(pool)) === 0 && libc().ioctl(fd, reseed, null) === 0;
  } finally {
    pool.fill(0);
    closeSync(fd);
  }
}
