/**
 * What a guest and its host say to each other about mounted volumes: a WebSocket that the host opens to
 * {@link volumesPort} of the guest. The first message of either side is JSON text ({@link VolumeHello},
 * {@link VolumeReady}); after that each binary message is a JSON head with bytes behind it. The host keeps nothing
 * between two calls and names files by their paths, so a guest that was paused, forked or rolled back goes on with
 * whatever connection it is given next.
 */

/** Port of the guest's volume server; nothing listens there in a sandbox without volumes. */
export const volumesPort = 49_984;

/** Where the guest agent takes the wish for a volume server. The host's alone. */
export const volumeServerPath = "/volumes";

/** What is to be mounted where. `owned`: the host can give files to users; else they belong to whoever looks. */
export type VolumeHello = { readonly mounts: readonly { readonly path: string; readonly owned: boolean }[] };

/** Everything is mounted, or why it is not. */
export type VolumeReady = { readonly ready: true } | { readonly failure: string };

/** An entry as `stat(2)` tells it: `mode` with its type bits, times in milliseconds with their fractions. */
export type VolumeAttributes = {
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
};

/** Whose a new entry is, and its permission bits. */
export type VolumeOwner = { readonly uid: number; readonly gid: number; readonly mode: number };

/** What is changed of an entry; what is absent stays. */
export type VolumeChange = Partial<VolumeOwner> & {
  readonly size?: number;
  readonly atimeMs?: number;
  readonly mtimeMs?: number;
};

/** One act on a volume. Paths are relative to the volume, without `/` at their begin; empty is the volume itself. */
export type VolumeCall =
  | { readonly op: "stat" | "list" | "readlink" | "unlink" | "rmdir" | "sync" | "space"; readonly path: string }
  | { readonly op: "read"; readonly path: string; readonly offset: number; readonly size: number }
  | { readonly op: "write"; readonly path: string; readonly offset: number }
  | ({
      readonly op: "create";
      readonly path: string;
      readonly exclusive: boolean;
      readonly truncate: boolean;
    } & VolumeOwner)
  | ({ readonly op: "mkdir"; readonly path: string } & VolumeOwner)
  | ({ readonly op: "symlink"; readonly path: string; readonly target: string } & VolumeOwner)
  | { readonly op: "rename"; readonly path: string; readonly to: string; readonly keep: boolean }
  | { readonly op: "link"; readonly path: string; readonly to: string }
  | ({ readonly op: "change"; readonly path: string } & VolumeChange);

/** A call with its number and where it was mounted. `again`: its answer may have been lost, so it may be done already. */
export type VolumeRequest = VolumeCall & { readonly id: number; readonly mount: string; readonly again?: boolean };

/** The name of an entry, its number and the type bits of its mode. */
export type VolumeName = readonly [name: string, ino: number, type: number];

/** Space of a volume's disk, in blocks and files. */
export type VolumeSpace = {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly free: number;
  readonly available: number;
  readonly files: number;
  readonly filesFree: number;
};

/** What came of a call: an errno(3) number, or what it asked for; what was read is behind it. */
export type VolumeAnswer = {
  readonly id: number;
  readonly errno?: number;
  readonly attributes?: VolumeAttributes;
  readonly names?: readonly VolumeName[];
  readonly target?: string;
  readonly space?: VolumeSpace;
};

const lengthBytes = 4;

/** A binary message. */
export function encodeVolumeMessage(head: VolumeRequest | VolumeAnswer, body?: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(head));
  const message = new Uint8Array(lengthBytes + text.length + (body?.length ?? 0));
  new DataView(message.buffer).setUint32(0, text.length);
  message.set(text, lengthBytes);
  if (body) message.set(body, lengthBytes + text.length);
  return message;
}

/** Head and body of a binary message; the body is a view. Throws `SyntaxError` or `RangeError` for one that is none. */
export function decodeVolumeMessage<T extends VolumeRequest | VolumeAnswer>(
  message: Uint8Array,
): { head: T; body: Uint8Array } {
  const length = new DataView(message.buffer, message.byteOffset, message.length).getUint32(0);
  const end = lengthBytes + length;
  const head = JSON.parse(new TextDecoder().decode(message.subarray(lengthBytes, end))) as T;
  return { head, body: message.subarray(end) };
}
