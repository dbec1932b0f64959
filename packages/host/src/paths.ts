/** Where things lie under the data folder. */
export class Paths {
  constructor(
    readonly root: string,
    readonly diskExtension: string,
  ) {}

  /** Folder of a machine while it exists: control socket, log. Holds no data of a sandbox. */
  machine(home: string): string {
    return `${this.root}/sandboxes/${home}`;
  }

  /** A disk layer. Names are unguessable and the folder cannot be listed, so a VMM opens its own layers only. */
  layer(id: string): string {
    return `${this.root}/layers/${id}.${this.diskExtension}`;
  }

  /** Folder of a snapshot's memory and devices. */
  snapshot(id: string): string {
    return `${this.root}/snapshots/${id}`;
  }

  /** The generation of memory that a machine was restored from or saved as last, by links; its next is saved over it. */
  base(home: string): string {
    return `${this.root}/bases/${home}`;
  }

  /** What happened in and around a sandbox. */
  log(id: string): string {
    return `${this.root}/journals/${id}`;
  }

  /** Folder of the loads of sandboxes. */
  get loads(): string {
    return `${this.root}/metrics`;
  }

  /** The load of a sandbox, as it was written down last. */
  load(id: string): string {
    return `${this.loads}/${id}`;
  }

  /** Folder of a snapshot that is being written: without a name of its own until it is whole. */
  unfinishedSnapshot(id: string): string {
    return `${this.root}/snapshots/.making-${id}`;
  }
}
