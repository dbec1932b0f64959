/** An entry that the kernel knows by a number. */
export type Node = {
  readonly id: number;
  /** `undefined` for the volume itself, and for what is at no path any more. */
  parent: Node | undefined;
  name: string;
  /** Number of the file on the host: another one under the same name is another entry. */
  readonly ino: number;
  /** How often the kernel was told of it and has not forgotten. */
  known: number;
  /** How often it is open. */
  open: number;
  /** It was removed while it was open, and waits under a name of its own for its last user. */
  isHidden: boolean;
};

const rootId = 1;

/**
 * The entries that the kernel knows, and where they are. It is the only state of a mount, and lies in the guest's memory:
 * a guest that was paused, forked or rolled back has what fits its kernel.
 */
export class Nodes {
  readonly #byId = new Map<number, Node>();
  readonly #byPlace = new Map<string, Node>();
  #last = rootId;

  constructor() {
    const volume = { id: rootId, parent: undefined, name: "", ino: 0, known: 1, open: 0, isHidden: false };
    this.#byId.set(rootId, volume);
  }

  /** What the kernel calls `id`. */
  get(id: number): Node | undefined {
    return this.#byId.get(id);
  }

  /** Where it is in the volume; `undefined` when that is not known any more. */
  pathOf(node: Node): string | undefined {
    const names: string[] = [];
    let at: Node | undefined = node;
    for (; at?.parent; at = at.parent) names.push(at.name);
    return at?.id === rootId ? names.reverse().join("/") : undefined;
  }

  /** The entry of a folder that the kernel knows by this name. */
  at(parent: Node, name: string): Node | undefined {
    return this.#byPlace.get(place(parent, name));
  }

  /** The entry that was found there, which the kernel is told of. One that was there before it is at no path any more. */
  found(parent: Node, name: string, ino: number): Node {
    const present = this.at(parent, name);
    const node = present?.ino === ino ? present : this.#make(parent, name, ino);
    node.known++;
    return node;
  }

  /** What was at a place is at another one now, or with no place at none. What was there before is at none. */
  move(node: Node, to?: { parent: Node; name: string }): void {
    if (node.parent && this.at(node.parent, node.name) === node) this.#byPlace.delete(place(node.parent, node.name));
    node.parent = to?.parent;
    if (!to) return;
    const before = this.at(to.parent, to.name);
    if (before && before !== node) before.parent = undefined;
    node.name = to.name;
    this.#byPlace.set(place(to.parent, to.name), node);
  }

  /** The kernel has forgotten it as often as `times`. */
  forget(id: number, times: number): void {
    const node = this.#byId.get(id);
    if (!node || id === rootId) return;
    node.known -= times;
    if (node.known > 0) return;
    this.move(node);
    this.#byId.delete(id);
  }

  #make(parent: Node, name: string, ino: number): Node {
    const node: Node = { id: ++this.#last, parent: undefined, name, ino, known: 0, open: 0, isHidden: false };
    this.#byId.set(node.id, node);
    this.move(node, { parent, name });
    return node;
  }
}

const place = (parent: Node, name: string): string => `${parent.id}/${name}`;
