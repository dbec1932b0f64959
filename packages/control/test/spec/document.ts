import Ajv2020 from "ajv/dist/2020";
import formats from "ajv-formats";

type Content = Record<string, { schema?: object; example?: unknown; examples?: object }>;
type Operation = {
  responses: Record<string, { content?: Content }>;
  security?: object[];
  requestBody?: { content?: Content };
  parameters?: { name: string; in: string; schema?: object }[];
};
type Whole = {
  paths: Record<string, Record<string, Operation>>;
  components: { examples?: Record<string, { value: unknown }> };
};
/** A JSON body or answer that is no error. */
type Shown = { where: string; example: unknown; pointer: readonly string[] };

/** The OpenAPI document of a running server, as a judge of its answers. */
export class Document {
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });
  readonly #validators = new Map<string, ReturnType<Ajv2020["compile"]>>();
  readonly paths: Whole["paths"];

  private constructor(readonly whole: Whole) {
    this.paths = whole.paths;
    formats(this.#ajv);
    this.#ajv.addSchema({ ...whole, $id: "openapi" });
  }

  static async of(address: string): Promise<Document> {
    return new Document((await (await fetch(`${address}/openapi.json`)).json()) as Whole);
  }

  /** Every operation: method, path, and what it says. */
  operations(): [method: string, path: string, operation: Operation][] {
    return Object.entries(this.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]): [string, string, Operation] => [
        method.toUpperCase(),
        path,
        operation,
      ]),
    );
  }

  /** The operation of a route, whatever its parameters are called. */
  find(method: string, path: string): { path: string; operation: Operation } | undefined {
    const shape = (text: string) => text.split("?")[0]!.replace(/\{\w+\}/g, "{}");
    const found = this.operations().find(([how, where]) => how === method && shape(where) === shape(path));
    return found && { path: found[1], operation: found[2] };
  }

  /** What is wrong with an answer: an undocumented status, or a body of another shape; `undefined` when it is well. */
  async judge(method: string, path: string, answer: Response): Promise<string | undefined> {
    const found = this.find(method, path);
    const described = found?.operation.responses[String(answer.status)];
    if (!described) return `${method} ${path}: status ${answer.status} is not documented`;
    const media = answer.headers.get("content-type")?.split(";")[0] ?? "";
    if (media === "text/event-stream") return void (await answer.body?.cancel()); // it has no end
    const text = await answer.clone().text();
    if (described.content === undefined)
      return text === "" ? undefined : `${method} ${path}: a body where there is none`;
    if (!described.content[media]) return `${method} ${path} ${answer.status}: ${media} is not documented`;
    if (media !== "application/json") return undefined;
    const at = [
      "paths",
      found!.path,
      method.toLowerCase(),
      "responses",
      `${answer.status}`,
      "content",
      media,
      "schema",
    ];
    const error = this.check(at, JSON.parse(text));
    return error && `${method} ${path} ${answer.status}: ${error} in ${text.slice(0, 300)}`;
  }

  /** What is wrong with a value by the schema at a place of the document; `undefined` when nothing is. */
  check(at: readonly string[], value: unknown): string | undefined {
    const pointer = at.map((step) => encodeURIComponent(step.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");
    const validate = this.#validators.get(pointer) ?? this.#ajv.compile({ $ref: `openapi#/${pointer}` });
    this.#validators.set(pointer, validate);
    return validate(value) ? undefined : this.#ajv.errorsText(validate.errors);
  }

  /** Every JSON body and answer that is no error, with its example. */
  examples(): Shown[] {
    const media = "application/json";
    return this.operations().flatMap(([method, path, { requestBody, responses }]) => {
      const base = ["paths", path, method.toLowerCase()];
      const asked = requestBody?.content?.[media];
      const body = asked && {
        where: `${method} ${path}`,
        pointer: [...base, "requestBody", "content", media, "schema"],
      };
      const answers = Object.entries(responses).flatMap(([status, { content }]) => {
        const told = Number(status) < 400 ? content?.[media] : undefined;
        const pointer = [...base, "responses", status, "content", media, "schema"];
        return told ? [{ where: `${method} ${path} ${status}`, example: told.example, pointer }] : [];
      });
      return [...(body ? [{ ...body, example: asked?.example }] : []), ...answers];
    });
  }

  /** The example of an error. */
  errorExample(code: string): unknown {
    return this.whole.components.examples?.[code]?.value;
  }
}
