import { dlopen, FFIType, ptr } from "bun:ffi";
import { check, SystemError } from "../native.ts";

const { i32, i64, ptr: pointer, u64 } = FFIType;

const open = () =>
  dlopen("libc.so.6", {
    fsetxattr: { args: [i32, pointer, pointer, u64, i32], returns: i32 },
    fremovexattr: { args: [i32, pointer], returns: i32 },
    flistxattr: { args: [i32, pointer, u64], returns: i64 },
    listxattr: { args: [pointer, pointer, u64], returns: i64 },
    getxattr: { args: [pointer, pointer, pointer, u64], returns: i64 },
  }).symbols;

let opened: ReturnType<typeof open> | undefined;
const calls = () => {
  opened ??= open();
  return opened;
};

const prefix = "user.e2b.";
const text = (value: string) => ptr(Buffer.from(`${value}\0`));

/** The largest list and value the kernel gives out (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const buffer = () => Buffer.allocUnsafe(65_536);

/** A file system without extended attributes holds no metadata. */
const unsupported = (thrown: unknown) =>
  thrown instanceof SystemError && ["ENOTSUP", "EOPNOTSUPP", "ENOSYS"].includes(thrown.code);

function namesIn(list: Buffer, length: number): string[] {
  const names = list.subarray(0, length).toString().split("\0");
  return names.filter((name) => name.startsWith(prefix));
}

/** Replaces the metadata of the open file `fd`; an empty set removes all of it. Throws {@link SystemError}. */
export function writeMetadata(fd: number, metadata: Readonly<Record<string, string>>): void {
  const list = buffer();
  try {
    const length = check("flistxattr", calls().flistxattr(fd, ptr(list), list.length));
    for (const name of namesIn(list, length)) check("fremovexattr", calls().fremovexattr(fd, text(name)));
  } catch (thrown) {
    if (!unsupported(thrown)) throw thrown;
  }
  for (const [key, value] of Object.entries(metadata)) {
    const bytes = Buffer.from(value);
    const where = ptr(bytes.length > 0 ? bytes : Buffer.alloc(1));
    check("fsetxattr", calls().fsetxattr(fd, text(prefix + key), where, bytes.length, 0));
  }
}

/** The metadata of the file or folder at `path`; empty where there is none or it cannot be read. */
export function readMetadata(path: string): Record<string, string> {
  const list = buffer();
  const length = Number(calls().listxattr(text(path), ptr(list), list.length));
  const metadata: Record<string, string> = {};
  if (length <= 0) return metadata;
  const value = buffer();
  for (const name of namesIn(list, length)) {
    const size = Number(calls().getxattr(text(path), text(name), ptr(value), value.length));
    if (size >= 0) metadata[name.slice(prefix.length)] = value.subarray(0, size).toString();
  }
  return metadata;
}
