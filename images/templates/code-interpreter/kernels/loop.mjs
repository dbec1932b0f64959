// Evaluates one piece of code a line, each in the world that those before left. Node's REPL does the work: it knows
// `await` at the top level. Usage: node loop.mjs javascript|typescript
import { create } from "node:domain";
import { createInterface } from "node:readline";
import repl from "node:repl";
import { PassThrough } from "node:stream";
import { inspect } from "node:util";

const out = process.stdout.write.bind(process.stdout);
const tell = (event) => out(`${JSON.stringify(event)}\n`);

for (const [name, type] of [
  ["stdout", "stdout"],
  ["stderr", "stderr"],
])
  process[name].write = (chunk, encoding, done) => {
    tell({ type, text: typeof chunk === "string" ? chunk : Buffer.from(chunk).toString() });
    (typeof encoding === "function" ? encoding : done)?.();
    return true;
  };

// Whatever a piece of code throws, then or later, arrives at the REPL's domain rather than at its callback.
const domain = create();
const world = repl.start({ input: new PassThrough(), output: new PassThrough(), prompt: "", useGlobal: true, domain });
let fail = () => {};
domain.removeAllListeners("error");
domain.on("error", (thrown) => fail(thrown));
// Code that never waits is not interrupted by this: who interrupts it starts the loop anew after a while.
process.on("SIGINT", () => fail(Object.assign(new Error("interrupted"), { name: "KeyboardInterrupt" })));

/** Takes types away; the compiler is loaded where it is needed only. */
const plain =
  process.argv[2] === "typescript"
    ? await import("./sucrase.mjs").then(
        ({ transform }) =>
          (code) =>
            transform(code, { transforms: ["typescript"], disableESTransforms: true, keepUnusedImports: true }).code,
      )
    : (code) => code;

/** A cell that is indented as a whole, as one in a program's text is, begins at the left. */
function atLeft(code) {
  const indent = /^\s*?([ \t]+)\S/.exec(code)?.[1];
  return indent ? code.replaceAll(new RegExp(`^${indent}`, "gm"), "") : code;
}

/** A cell is often run again with a change, and may declare what it declared before. */
const again = (code) => atLeft(code).replace(/^(const|let)(?=\s)/gm, "var");

/** A loop has no `import` statements; what they say can be said with `await import(…)`. */
const imports = (code) =>
  code.replace(/^import\s+(?:([^"';]+?)\s+from\s+)?(["'][^"']+["']);?/gm, (_, names, module) =>
    names ? bindings(names, `await import(${module})`) : `await import(${module});`,
  );

/** `a, { b as c }` and `* as d` as a declaration. */
function bindings(names, value) {
  const all = /^\*\s+as\s+(\S+)$/.exec(names);
  if (all) return `var ${all[1]} = ${value};`;
  const [, first, named = ""] = /^([\w$]+)?\s*,?\s*(?:\{([^}]*)\})?$/.exec(names) ?? [];
  const parts = named.split(",").flatMap((part) => part.trim().replace(/\s+as\s+/, ": ") || []);
  return `var { ${[...(first ? [`default: ${first}`] : []), ...parts].join(", ")} } = ${value};`;
}

const evaluate = (code) =>
  new Promise((resolve, reject) => {
    fail = reject;
    const cell = `${imports(again(plain(code)))}\n`;
    world.eval(cell, world.context, "cell", (error, value) => (error ? reject(error) : resolve(value)));
  });

const shown = (value) => ({
  "text/plain": typeof value === "string" ? value : inspect(value),
  ...(isPlain(value) && { "application/json": value }),
});

function isPlain(value) {
  if (value === null || typeof value !== "object") return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Array.isArray(value);
}

function told(value) {
  try {
    tell({ type: "result", data: shown(value) });
  } catch {
    tell({ type: "result", data: { "text/plain": inspect(value) } }); // JSON has no place for circles
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    const value = await evaluate(JSON.parse(line).code);
    if (value !== undefined) told(value);
  } catch (thrown) {
    const error = thrown instanceof Error || thrown?.stack ? (thrown.err ?? thrown) : new Error(inspect(thrown));
    tell({
      type: "error",
      name: error.name ?? "Error",
      value: String(error.message),
      stack: String(error.stack).split("\n"),
    });
  }
  fail = () => {};
  tell({ type: "done" });
}
