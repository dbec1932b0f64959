import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { closeSync, openSync } from "node:fs";

/** System calls that no module of the runtime offers. Loaded on first use, so that machines without them need nothing. */
const load = () =>
  dlopen("libc.so.6", {
    ioctl: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
    setns: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    mkfifo: { args: [FFIType.cstring, FFIType.u32], returns: FFIType.i32 },
    mknod: { args: [FFIType.cstring, FFIType.u32, FFIType.u64], returns: FFIType.i32 },
    fallocate: { args: [FFIType.i32, FFIType.i32, FFIType.i64, FFIType.i64], returns: FFIType.i32 },
    lseek: { args: [FFIType.i32, FFIType.i64, FFIType.i32], returns: FFIType.i64 },
    listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    getsockopt: {
      args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr],
      returns: FFIType.i32,
    },
    close: { args: [FFIType.i32], returns: FFIType.i32 },
    process_vm_readv: {
      args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.ptr, FFIType.u64, FFIType.u64],
      returns: FFIType.i64,
    },
    syscall: { args: [FFIType.i64, FFIType.i64, FFIType.i64, FFIType.i64], returns: FFIType.i64 },
    __errno_location: { args: [], returns: FFIType.ptr },
  }).symbols;

let loaded: ReturnType<typeof load> | undefined;
const c = () => {
  loaded ??= load();
  return loaded;
};

/** errno(3) values that callers tell apart. */
export const errno = { ENOENT: 2, ENXIO: 6, EBUSY: 16, ENODEV: 19, EINVAL: 22 } as const;

/** A system call that failed, with its `errno`. */
export class SystemError extends Error {
  constructor(
    readonly call: string,
    readonly errno: number,
  ) {
    super(`${call} failed with errno ${errno}`);
  }
}

const check = (result: number | bigint, call: string): number => {
  if (Number(result) < 0) throw new SystemError(call, read.i32(c().__errno_location()!, 0));
  return Number(result);
};

/** ioctl(2) with a structure, or with a number that stands for itself. Gives what the call returns. */
export function ioctl(fd: number, request: number, argument: Uint8Array | number, call: string): number {
  const pointer = typeof argument === "number" ? argument : ptr(argument.buffer, argument.byteOffset);
  return check(c().ioctl(fd, request, pointer as ReturnType<typeof ptr>), call);
}

/** A range of another process's memory. */
export type Range = { readonly address: number; readonly bytes: number };

/**
 * Fills `into` with the ranges one after the other, at most 1,024 of them (process_vm_readv(2)): copied once, where
 * /proc/PID/mem copies each page twice and takes the process's lock for it. Gives the bytes read. Throws a `SystemError`.
 */
export function readProcess(pid: number, ranges: readonly Range[], into: Uint8Array): number {
  const entry = (address: number, bytes: number) => [BigInt(address), BigInt(bytes)];
  const remote = new BigUint64Array(ranges.flatMap(({ address, bytes }) => entry(address, bytes)));
  const local = new BigUint64Array(entry(ptr(into.buffer, into.byteOffset), into.length));
  const got = c().process_vm_readv(pid, ptr(local.buffer), 1n, ptr(remote.buffer), BigInt(ranges.length), 0n);
  return check(got, "process_vm_readv");
}

/** Makes a block device node (mknod(2)). */
export function makeBlockNode(path: string, device: { major: number; minor: number }): void {
  const blockDevice = 0o060000;
  const { major, minor } = device;
  const number = BigInt((minor & 0xff) | (major << 8)) | (BigInt(minor & ~0xff) << 12n); // makedev(3) for small majors
  check(c().mknod(Buffer.from(`${path}\0`), blockDevice | 0o600, number), `mknod ${path}`);
}

/**
 * Does `act`, which must not wait for anything, with this thread in the network name space whose file is `path` (setns(2)):
 * sockets that it makes are of that name space for good.
 */
export function inNetwork<T>(path: string, act: () => T): T {
  const cloneNewNet = 0x4000_0000;
  const [there, here] = [openSync(path, "r"), openSync("/proc/thread-self/ns/net", "r")];
  try {
    check(c().setns(there, cloneNewNet), `entering ${path}`);
    try {
      return act();
    } finally {
      // A thread that stays there would make everything of this process there from now on.
      if (c().setns(here, cloneNewNet) !== 0) process.abort();
    }
  } finally {
    for (const fd of [there, here]) closeSync(fd);
  }
}

/** Makes a pipe with a name, for its owner alone (mkfifo(3)). */
export function makePipe(path: string): void {
  check(c().mkfifo(Buffer.from(`${path}\0`), 0o600), `mkfifo ${path}`);
}

/** Turns a range of a file into a hole: it reads as zeros and takes no space (fallocate(2), PUNCH_HOLE with KEEP_SIZE). */
export function punchHole(fd: number, offset: number, length: number): void {
  check(c().fallocate(fd, 3, BigInt(offset), BigInt(length)), "fallocate");
}

/** The runs of data in a sparse file, in order (lseek(2), SEEK_DATA and SEEK_HOLE). */
export function* dataRuns(fd: number, size: number): Generator<{ offset: number; length: number }> {
  const [seekData, seekHole] = [3, 4];
  for (let at = 0; at < size; ) {
    const offset = Number(c().lseek(fd, BigInt(at), seekData));
    if (offset < 0) return; // nothing but a hole follows
    const end = Math.min(check(c().lseek(fd, BigInt(offset), seekHole), "lseek"), size);
    yield { offset, length: end - offset };
    at = end;
  }
}

/**
 * Makes `to`, a new file or (with `r+`) one that exists, a copy of `from` that shares its blocks (ioctl_ficlone(2)).
 * Throws a `SystemError` where that cannot be.
 */
export function cloneFile(from: string, to: string, how: "wx" | "r+"): void {
  const FICLONE = 0x40049409;
  const source = openSync(from, "r");
  try {
    const target = openSync(to, how, 0o600);
    try {
      ioctl(target, FICLONE, source, `sharing the blocks of ${from}`);
    } finally {
      closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

/** Extents asked for at once. */
const extentsAtOnce = 512;

/** Bytes of a file that no other shares (linux/fiemap.h: `struct fiemap`, then 56 bytes for each extent). */
export function unsharedBytes(fd: number): number {
  const FS_IOC_FIEMAP = 0xc020660b;
  const flag = { last: 1, sync: 1, shared: 0x2000 };
  const answer = new Uint8Array(32 + 56 * extentsAtOnce);
  const view = new DataView(answer.buffer);
  let sum = 0;
  for (let start = 0n; ; ) {
    answer.fill(0);
    view.setBigUint64(0, start, true);
    view.setBigUint64(8, 2n ** 64n - 1n - start, true);
    view.setUint32(16, flag.sync, true); // what waits in memory has no place yet
    view.setUint32(24, extentsAtOnce, true);
    ioctl(fd, FS_IOC_FIEMAP, answer, "FS_IOC_FIEMAP");
    const found = view.getUint32(20, true);
    for (let i = 0; i < found; i++) {
      const at = 32 + i * 56;
      const [length, flags] = [view.getBigUint64(at + 16, true), view.getUint32(at + 40, true)];
      if ((flags & flag.shared) === 0) sum += Number(length);
      if (flags & flag.last) return sum;
      start = view.getBigUint64(at, true) + length;
    }
    if (found === 0) return sum;
  }
}

const call = { pidfdOpen: 434n, pidfdGetfd: 438n }; // the same on every architecture

/** Lets a listening socket of another process hold `backlog` waiting connections (pidfd_getfd(2), listen(2)). Throws a `SystemError`. */
export function widenBacklog(pid: number, fd: number, backlog: number): void {
  const owner = check(c().syscall(call.pidfdOpen, BigInt(pid), 0n, 0n), "pidfd_open");
  try {
    const socket = check(c().syscall(call.pidfdGetfd, BigInt(owner), BigInt(fd), 0n), "pidfd_getfd");
    try {
      check(c().listen(socket, backlog), "listen");
    } finally {
      c().close(socket);
    }
  } finally {
    c().close(owner);
  }
}

/** An option of a socket (getsockopt(2)); `undefined` where the kernel has none for it. */
export function socketOption(
  fd: number,
  { level, name, bytes }: { level: number; name: number; bytes: number },
): Uint8Array | undefined {
  const value = new Uint8Array(bytes);
  const length = new Uint32Array([bytes]);
  return c().getsockopt(fd, level, name, ptr(value), ptr(length)) === 0 ? value.subarray(0, length[0]) : undefined;
}
