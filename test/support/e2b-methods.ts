/** Methods of the E2B SDK as a table, and which of them a test has seen succeed. */

type Fn = (...args: unknown[]) => unknown;
type Named = { readonly name: string; readonly on: object; readonly skip?: readonly string[] };

/** Names that belong to every class, and helpers that take no part in talking to a server. */
const notMethods = ["constructor", "length", "name", "prototype"];

const methodsOf = ({ on, skip = [] }: Named): string[] =>
  Object.entries(Object.getOwnPropertyDescriptors(on))
    .filter(([name, { value }]) => typeof value === "function" && !notMethods.includes(name) && !skip.includes(name))
    .map(([name]) => name);

/** Watches methods of classes or objects: a call counts when what it gives has come about. */
export class Methods {
  readonly #seen = new Set<string>();
  readonly #all: string[] = [];

  /** Watches the public methods of `on`, to be known as `name.method`. */
  watch(named: Named): void {
    const target = named.on as Record<string, Fn>;
    for (const method of methodsOf(named)) {
      const full = `${named.name}.${method}`;
      if (!this.#all.includes(full)) this.#all.push(full);
      const original = target[method]!;
      const seen = this.#seen;
      target[method] = function (this: unknown, ...args: unknown[]) {
        const given = original.apply(this, args);
        if (!(given instanceof Promise)) {
          seen.add(full);
          return given;
        }
        return given.then((value) => {
          seen.add(full);
          return value;
        });
      };
    }
  }

  /** Every watched method, sorted. */
  get all(): string[] {
    return this.#all.toSorted();
  }

  /** Those that have succeeded. */
  get seen(): ReadonlySet<string> {
    return this.#seen;
  }
}
