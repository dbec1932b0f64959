import type { VolumeAttributes, VolumeCall, VolumeChange, VolumeName } from "@wrenn/contract/core";
import {
  attributesOf,
  bytesOf,
  entryOf,
  errno,
  type FuseRequest,
  failureOf,
  listOf,
  namesIn,
  number64,
  operation as op,
  openOf,
  spaceOf,
  timeIn,
  type Viewer,
  writtenOf,
} from "./fuse.ts";
import type { Answered } from "./line.ts";
import { type Node, Nodes } from "./nodes.ts";

/** A call to the host that has this volume. */
export type Ask = (call: VolumeCall, body?: Uint8Array) => Promise<Answered>;

/** A failure that the kernel is told as a number of errno(3). */
class Failed extends Error {
  constructor(readonly number: number) {
    super(`errno ${number}`);
  }
}

/** `O_EXCL` and `O_TRUNC` of open(2), and `RENAME_NOREPLACE` of rename(2). */
const flag = { exclusive: 0o200, truncate: 0o1000, noReplace: 1 };
const typeBits = 0o170000;
const regularFile = 0o100000;

/** What the bits of `valid` in `setattr` say is to be changed. */
const changed = { mode: 1, uid: 2, gid: 4, size: 8, atime: 16, mtime: 32, atimeNow: 128, mtimeNow: 256 };

/** Begin of the names of files that were removed while they were open; the host shows them to nobody. */
const hidden = ".wrenn-removed-";

type Act = (request: FuseRequest) => Promise<Uint8Array | undefined> | Uint8Array | undefined;

/** Answers the kernel for one volume: turns its numbers into paths, and asks the host about these. */
export class Files {
  readonly #nodes = new Nodes();
  /** What is in each folder that is being read, as it was when that began. */
  readonly #lists = new Map<number, readonly VolumeName[]>();
  #lastList = 0;
  readonly #acts: Readonly<Record<number, Act>> = {
    [op.lookup]: (request) => this.#lookup(request),
    [op.forget]: (request) => this.#forget(request.node, number64(request, 0)),
    [op.batchForget]: (request) => this.#forgetMany(request),
    [op.getattr]: (request) => this.#stat(request),
    [op.setattr]: (request) => this.#change(request),
    [op.readlink]: (request) => this.#readlink(request),
    [op.symlink]: (request) => this.#symlink(request),
    [op.mknod]: (request) => this.#mknod(request),
    [op.mkdir]: (request) => this.#make(request, { op: "mkdir", ...ownerOf(request, 0), path: "" }, 8),
    [op.create]: (request) => this.#create(request),
    [op.unlink]: (request) => this.#unlink(request),
    [op.rmdir]: (request) => this.#rmdir(request),
    [op.rename]: (request) => this.#rename(request, 8, 0),
    [op.rename2]: (request) => this.#rename(request, 16, request.view.getUint32(8, true)),
    [op.link]: (request) => this.#link(request),
    [op.open]: (request) => this.#open(request),
    [op.release]: (request) => this.#release(request),
    [op.read]: (request) => this.#read(request),
    [op.write]: (request) => this.#write(request),
    [op.fsync]: (request) => this.#sync(request),
    [op.fsyncdir]: (request) => this.#sync(request),
    [op.opendir]: (request) => this.#openFolder(request),
    [op.readdir]: (request) => this.#readFolder(request),
    [op.releasedir]: (request) => this.#closeFolder(request),
    [op.statfs]: (request) => this.#space(request),
  };

  constructor(
    readonly ask: Ask,
    readonly owned: boolean,
  ) {}

  /** The bytes that answer a request; `undefined` for those that are not answered. */
  async answer(request: FuseRequest): Promise<Uint8Array | undefined> {
    const act = this.#acts[request.operation];
    if (!act) return failureOf(request.unique, errno.ENOSYS);
    try {
      return await act(request);
    } catch (thrown) {
      if (!(thrown instanceof Failed)) console.error("a volume's request failed", thrown);
      return failureOf(request.unique, thrown instanceof Failed ? thrown.number : errno.EIO);
    }
  }

  async #asked(call: VolumeCall, body?: Uint8Array): Promise<Answered> {
    const answered = await this.ask(call, body);
    if (answered.head.errno === undefined) return answered;
    throw new Failed(answered.head.errno);
  }

  #node({ node }: FuseRequest): Node {
    return found(this.#nodes.get(node));
  }

  #path(node: Node): string {
    const path = this.#nodes.pathOf(node);
    if (path !== undefined) return path;
    throw new Failed(errno.ESTALE); // another sandbox has replaced or removed it
  }

  #pathIn(request: FuseRequest, name: string): string {
    const folder = this.#path(this.#node(request));
    return folder === "" ? name : `${folder}/${name}`;
  }

  #viewer({ uid, gid }: FuseRequest): Viewer {
    return this.owned ? undefined : { uid, gid };
  }

  /** Tells the kernel of an entry in the folder that it asked about. */
  #entry(request: FuseRequest, name: string, { head }: Answered, opened = false): Uint8Array {
    const of = attributesIn(head.attributes);
    const node = this.#nodes.found(this.#node(request), name, of.ino);
    if (opened) node.open++;
    return entryOf(request.unique, { node: node.id, of, viewer: this.#viewer(request), opened });
  }

  async #lookup(request: FuseRequest): Promise<Uint8Array> {
    const [name = ""] = namesIn(request, 0);
    return this.#entry(request, name, await this.#asked({ op: "stat", path: this.#pathIn(request, name) }));
  }

  #forget(node: number, times: number): undefined {
    this.#nodes.forget(node, times);
  }

  #forgetMany(request: FuseRequest): undefined {
    const count = request.view.getUint32(0, true);
    for (let at = 0; at < count; at++) this.#forget(number64(request, 8 + at * 16), number64(request, 16 + at * 16));
  }

  async #stat(request: FuseRequest): Promise<Uint8Array> {
    const { head } = await this.#asked({ op: "stat", path: this.#path(this.#node(request)) });
    return attributesOf(request.unique, attributesIn(head.attributes), this.#viewer(request));
  }

  async #change(request: FuseRequest): Promise<Uint8Array> {
    const path = this.#path(this.#node(request));
    const { head } = await this.#asked({ op: "change", path, ...changeOf(request) });
    return attributesOf(request.unique, attributesIn(head.attributes), this.#viewer(request));
  }

  async #readlink(request: FuseRequest): Promise<Uint8Array> {
    const { head } = await this.#asked({ op: "readlink", path: this.#path(this.#node(request)) });
    return bytesOf(request.unique, Buffer.from(head.target ?? ""));
  }

  async #symlink(request: FuseRequest): Promise<Uint8Array> {
    const [name = "", target = ""] = namesIn(request, 0);
    const { uid, gid } = request;
    const call = { op: "symlink", path: this.#pathIn(request, name), target, uid, gid, mode: 0o777 } as const;
    return this.#entry(request, name, await this.#asked(call));
  }

  async #mknod(request: FuseRequest): Promise<Uint8Array> {
    if ((request.view.getUint32(0, true) & typeBits) !== regularFile) throw new Failed(errno.EPERM);
    const how = { exclusive: true, truncate: false };
    return await this.#make(request, { op: "create", ...how, ...ownerOf(request, 0), path: "" }, 16);
  }

  /** Makes an entry whose name stands at `offset`. */
  async #make(request: FuseRequest, call: VolumeCall, offset: number, opened = false): Promise<Uint8Array> {
    const [name = ""] = namesIn(request, offset);
    const answered = await this.#asked({ ...call, path: this.#pathIn(request, name) });
    return this.#entry(request, name, answered, opened);
  }

  async #create(request: FuseRequest): Promise<Uint8Array> {
    const flags = request.view.getUint32(0, true);
    const how = { exclusive: (flags & flag.exclusive) !== 0, truncate: (flags & flag.truncate) !== 0 };
    return await this.#make(request, { op: "create", ...how, ...ownerOf(request, 4), path: "" }, 16, true);
  }

  /** What is open goes on under a name of its own until it is closed: the host keeps no files open. */
  async #unlink(request: FuseRequest): Promise<Uint8Array> {
    const [name = ""] = namesIn(request, 0);
    const parent = this.#node(request);
    const node = this.#nodes.at(parent, name);
    const path = this.#pathIn(request, name);
    if (node && node.open > 0) {
      const other = hidden + crypto.randomUUID();
      await this.#asked({ op: "rename", path, to: this.#pathIn(request, other), keep: true });
      this.#nodes.move(node, { parent, name: other });
      node.isHidden = true;
    } else {
      await this.#asked({ op: "unlink", path });
      if (node) this.#nodes.move(node);
    }
    return failureOf(request.unique, 0);
  }

  async #rmdir(request: FuseRequest): Promise<Uint8Array> {
    const [name = ""] = namesIn(request, 0);
    await this.#asked({ op: "rmdir", path: this.#pathIn(request, name) });
    const node = this.#nodes.at(this.#node(request), name);
    if (node) this.#nodes.move(node);
    return failureOf(request.unique, 0);
  }

  async #rename(request: FuseRequest, offset: number, flags: number): Promise<Uint8Array> {
    if ((flags & ~flag.noReplace) !== 0) throw new Failed(errno.EINVAL);
    const [from = "", name = ""] = namesIn(request, offset);
    const target = found(this.#nodes.get(number64(request, 0)));
    const folder = this.#path(target);
    const to = folder === "" ? name : `${folder}/${name}`;
    const keep = (flags & flag.noReplace) !== 0;
    await this.#asked({ op: "rename", path: this.#pathIn(request, from), to, keep });
    const node = this.#nodes.at(this.#node(request), from);
    if (node) this.#nodes.move(node, { parent: target, name });
    return failureOf(request.unique, 0);
  }

  async #link(request: FuseRequest): Promise<Uint8Array> {
    const [name = ""] = namesIn(request, 8);
    const path = this.#path(found(this.#nodes.get(number64(request, 0))));
    return this.#entry(request, name, await this.#asked({ op: "link", path, to: this.#pathIn(request, name) }));
  }

  #open(request: FuseRequest): Uint8Array {
    const node = this.#node(request);
    this.#path(node); // fails for what is gone
    node.open++;
    return openOf(request.unique, 0);
  }

  async #release(request: FuseRequest): Promise<Uint8Array> {
    const node = this.#nodes.get(request.node);
    if (node && --node.open === 0 && node.isHidden) {
      const path = this.#nodes.pathOf(node);
      if (path !== undefined) await this.ask({ op: "unlink", path }); // its user is gone, whatever becomes of it
      this.#nodes.move(node);
    }
    return failureOf(request.unique, 0);
  }

  async #read(request: FuseRequest): Promise<Uint8Array> {
    const [offset, size] = [number64(request, 8), request.view.getUint32(16, true)];
    const path = this.#path(this.#node(request));
    return bytesOf(request.unique, (await this.#asked({ op: "read", path, offset, size })).body);
  }

  async #write(request: FuseRequest): Promise<Uint8Array> {
    const [offset, size] = [number64(request, 8), request.view.getUint32(16, true)];
    const path = this.#path(this.#node(request));
    await this.#asked({ op: "write", path, offset }, request.bytes.subarray(40, 40 + size));
    return writtenOf(request.unique, size);
  }

  async #sync(request: FuseRequest): Promise<Uint8Array> {
    await this.#asked({ op: "sync", path: this.#path(this.#node(request)) });
    return failureOf(request.unique, 0);
  }

  /** All names at once: whoever removes files while reading a folder misses none. */
  async #openFolder(request: FuseRequest): Promise<Uint8Array> {
    const { head } = await this.#asked({ op: "list", path: this.#path(this.#node(request)) });
    const handle = ++this.#lastList;
    this.#lists.set(handle, head.names ?? []);
    return openOf(request.unique, handle);
  }

  #readFolder(request: FuseRequest): Uint8Array {
    const names = this.#lists.get(number64(request, 0)) ?? [];
    const part = { offset: number64(request, 8), size: request.view.getUint32(16, true) };
    return listOf(request.unique, names, part);
  }

  #closeFolder(request: FuseRequest): Uint8Array {
    this.#lists.delete(number64(request, 0));
    return failureOf(request.unique, 0);
  }

  async #space(request: FuseRequest): Promise<Uint8Array> {
    const { head } = await this.#asked({ op: "space", path: "" });
    if (!head.space) throw new Failed(errno.EIO);
    return spaceOf(request.unique, head.space);
  }
}

function found(node: Node | undefined): Node {
  if (node) return node;
  throw new Failed(errno.ESTALE);
}

function attributesIn(attributes: VolumeAttributes | undefined): VolumeAttributes {
  if (attributes) return attributes;
  throw new Failed(errno.EIO);
}

/** Whose a new entry is to be; its mode stands at `offset`. */
const ownerOf = ({ view, uid, gid }: FuseRequest, offset: number) => ({
  ...{ uid, gid },
  mode: view.getUint32(offset, true) & 0o7777,
});

function changeOf(request: FuseRequest): VolumeChange {
  const { view } = request;
  const valid = view.getUint32(0, true);
  const has = (bit: number) => (valid & bit) !== 0;
  return {
    ...(has(changed.mode) && { mode: view.getUint32(68, true) & 0o7777 }),
    ...(has(changed.uid) && { uid: view.getUint32(76, true) }),
    ...(has(changed.gid) && { gid: view.getUint32(80, true) }),
    ...(has(changed.size) && { size: number64(request, 16) }),
    ...(has(changed.atime) && { atimeMs: has(changed.atimeNow) ? Date.now() : timeIn(request, 32, 56) }),
    ...(has(changed.mtime) && { mtimeMs: has(changed.mtimeNow) ? Date.now() : timeIn(request, 40, 60) }),
  };
}
