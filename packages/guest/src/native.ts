import { dlopen, FFIType, type Pointer, ptr, read } from "bun:ffi";
import { constants } from "node:os";

const { i32, i64, u64, ptr: pointer } = FFIType;

/**
 * The few libc calls that neither Bun nor Node offers. Opened on first use: a compiled trampoline per symbol costs
 * about half a millisecond of start-up on an emulated guest.
 */
const open = () =>
  dlopen("libc.so.6", {
    pipe2: { args: [pointer, i32], returns: i32 },
    fcntl: { args: [i32, i32, i64], returns: i32 },
    ioctl: { args: [i32, u64, pointer], returns: i32 },
    syscall: { args: [i64, i64, i64, i64, i64], returns: i64 },
    __errno_location: { args: [], returns: pointer },
  }).symbols;

let opened: ReturnType<typeof open> | undefined;

/** The symbols above. */
export function libc(): ReturnType<typeof open> {
  opened ??= open();
  return opened;
}

/** A failed system call; `code` is the errno's name, as in Node's errors. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  readonly code: string;
  constructor(
    readonly syscall: string,
    readonly errno: number,
  ) {
    const code = Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
    super(`${syscall} failed: ${code}`);
    this.code = code;
  }
}

/** Throws {@link SystemError} with the calling thread's errno when `result` says that `syscall` failed. */
export function check(syscall: string, result: number | bigint): number {
  const value = Number(result);
  if (value >= 0) return value;
  const where = libc().__errno_location();
  throw new SystemError(syscall, where ? read.i32(where, 0) : 0);
}

/** A raw system call of up to four arguments, made by the calling thread alone; throws {@link SystemError}. */
export function systemCall(name: string, number: number, ...args: readonly (number | bigint)[]): number {
  const [a = 0, b = 0, c = 0, d = 0] = args;
  return check(name, libc().syscall(number, a, b, c, d));
}

const openFlags = { nonBlocking: 0o4000, closeOnExec: 0o2000000 };
const pair = new Int32Array(2);

/** A pipe whose two ends are closed on exec. */
export function pipe(): { read: number; write: number } {
  check("pipe2", libc().pipe2(ptr(pair), openFlags.closeOnExec));
  return { read: pair[0]!, write: pair[1]! };
}

const setStatusFlags = 4; // F_SETFL

/** Makes reads and writes of `fd` return EAGAIN instead of blocking the only thread. */
export function setNonBlocking(fd: number): void {
  check("fcntl", libc().fcntl(fd, setStatusFlags, openFlags.nonBlocking));
}

const setPipeSize = 1031; // F_SETPIPE_SZ

/** Lets `fd` hold up to `bytes`; where the system does not allow it, the pipe stays as it is. */
export function growPipe(fd: number, bytes: number): void {
  libc().fcntl(fd, setPipeSize, bytes);
}

const bytesReadable = 0x541b; // FIONREAD
const count = new Int32Array(1);

/** How many bytes wait in the pipe or terminal `fd`. */
export function pendingBytes(fd: number): number {
  check("ioctl", libc().ioctl(fd, bytesReadable, ptr(count)));
  return count[0]!;
}

const terminalFlow = { request: 0x540a, stop: 0, start: 1 }; // TCXONC, TCOOFF, TCOON

/** Stops or starts the output of the terminal `fd`, as Ctrl-S and Ctrl-Q do. */
export function flowControl(fd: number, action: "stop" | "start"): void {
  check("ioctl", libc().ioctl(fd, terminalFlow.request, terminalFlow[action] as unknown as Pointer));
}
