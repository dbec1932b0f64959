import { closeSync, openSync } from "node:fs";
import { errno, ioctl, SystemError } from "../libc.ts";

/** linux/dm-ioctl.h: `struct dm_ioctl` and its commands. */
const headBytes = 312;
const command = { list: 2, create: 3, remove: 4, suspend: 6, status: 7, load: 9, tableStatus: 12 } as const;
const flag = { readOnly: 1, suspended: 2, activeTable: 1 << 5, deferredRemove: 1 << 17 } as const;
const request = (number: number): number => 2 ** 30 * 3 + headBytes * 2 ** 16 + 0xfd * 2 ** 8 + number;

/** Room for a table or for a list of some thousand names. */
const bufferBytes = 1 << 20;

/** A mapped device as the kernel tells of it. */
export type Mapped = { readonly minor: number; readonly openCount: number; readonly hasTable: boolean };

/** What a device is to be: one target over its whole length. */
export type Target = { readonly sectors: number; readonly kind: string; readonly parameters: string };

/** Device mapper by its control device: no process is started, and no udev is needed. */
export class Mapper {
  #control: number | undefined;

  /** The device called `name`, if there is one. */
  find(name: string): Mapped | undefined {
    try {
      return mapped(this.#call(command.status, { name }));
    } catch (thrown) {
      if (thrown instanceof SystemError && thrown.errno === errno.ENXIO) return undefined;
      throw thrown;
    }
  }

  /** Makes a device and brings it to life. Throws `SystemError` with EBUSY when the name is taken. */
  create(name: string, target: Target, readOnly: boolean): Mapped {
    this.#call(command.create, { name, flags: readOnly ? flag.readOnly : 0 });
    try {
      this.#call(command.load, { name, flags: readOnly ? flag.readOnly : 0, target });
      return mapped(this.#call(command.suspend, { name })); // without its flag, suspend means resume
    } catch (thrown) {
      this.remove(name);
      throw thrown;
    }
  }

  /** Removes a device: at once, or when its last user has closed it. One that is not there is fine. */
  remove(name: string): void {
    try {
      this.#call(command.remove, { name, flags: flag.deferredRemove });
    } catch (thrown) {
      if (!(thrown instanceof SystemError && thrown.errno === errno.ENXIO)) throw thrown;
    }
  }

  /** What a device's target says of itself (for snapshots: `used/total metadata` in sectors, or `Invalid`). */
  status(name: string): string {
    const answer = this.#call(command.tableStatus, { name });
    const start = new DataView(answer.buffer).getUint32(16, true);
    const text = answer.subarray(start + 40); // after struct dm_target_spec
    return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
  }

  /** The names of all devices. */
  names(): string[] {
    const answer = this.#call(command.list, {});
    const view = new DataView(answer.buffer);
    const names: string[] = [];
    const end = view.getUint32(12, true);
    for (let at = view.getUint32(16, true); at < end && view.getBigUint64(at, true) !== 0n; ) {
      const name = answer.subarray(at + 12);
      names.push(new TextDecoder().decode(name.subarray(0, name.indexOf(0))));
      const next = view.getUint32(at + 8, true);
      if (next === 0) break;
      at += next;
    }
    return names;
  }

  #call(number: number, { name = "", flags = 0, target }: { name?: string; flags?: number; target?: Target }) {
    this.#control ??= openSync("/dev/mapper/control", "r+");
    const data = new Uint8Array(bufferBytes);
    const view = new DataView(data.buffer);
    [4, 0, 0].forEach((part, i) => {
      view.setUint32(i * 4, part, true); // version of the interface
    });
    view.setUint32(12, data.length, true);
    view.setUint32(16, headBytes, true);
    view.setUint32(28, flags, true);
    data.set(new TextEncoder().encode(name), 48);
    if (target) writeTarget(data, target);
    ioctl(this.#control, request(number), data, `device mapper command ${number} on ${name}`);
    return data;
  }

  [Symbol.dispose](): void {
    if (this.#control !== undefined) closeSync(this.#control);
    this.#control = undefined;
  }
}

/** `struct dm_target_spec`, then its parameters as text. */
function writeTarget(data: Uint8Array, { sectors, kind, parameters }: Target): void {
  const view = new DataView(data.buffer, headBytes);
  view.setBigUint64(8, BigInt(sectors), true);
  data.set(new TextEncoder().encode(kind), headBytes + 24);
  data.set(new TextEncoder().encode(parameters), headBytes + 40);
  new DataView(data.buffer).setUint32(20, 1, true); // one target
}

function mapped(data: Uint8Array): Mapped {
  const view = new DataView(data.buffer);
  const device = Number(view.getBigUint64(40, true));
  return {
    minor: (device & 0xff) | ((device >>> 12) & 0xfff00), // new_encode_dev of the kernel
    openCount: view.getInt32(24, true),
    hasTable: (view.getUint32(28, true) & flag.activeTable) !== 0,
  };
}
