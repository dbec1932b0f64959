/** Where things of a sandbox lie under the data folder. */
export class Paths {
  constructor(
    readonly root: string,
    readonly diskExtension: string,
  ) {}

  /** Folder of a sandbox that is not gone: disk layers, control socket, log. */
  sandbox(id: string): string {
    return `${this.root}/sandboxes/${id}`;
  }

  /** A disk layer of a sandbox; numbers rise from the template upward. */
  layer(id: string, number: number): string {
    return `${this.sandbox(id)}/disk-${number}.${this.diskExtension}`;
  }

  /** Folder of a snapshot. */
  snapshot(name: string): string {
    return `${this.root}/snapshots/${name}`;
  }

  /** Folder of a snapshot that is being written: without a name of its own until it is whole. */
  unfinishedSnapshot(name: string): string {
    return `${this.root}/snapshots/.making-${name}`;
  }
}
