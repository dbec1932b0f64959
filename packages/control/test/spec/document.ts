import Ajv2020 from "ajv/dist/2020";
import formats from "ajv-formats";

type Responses = Record<string, { content?: Record<string, { schema?: object }> }>;
type Operation = { responses: Responses; security?: object[]; requestBody?: object };

/** The OpenAPI document of a running server, as a judge of its answers. */
export class Document {
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });

  private constructor(
    readonly paths: Record<string, Record<string, Operation>>,
    whole: object,
  ) {
    formats(this.#ajv);
    this.#ajv.addSchema({ ...whole, $id: "openapi" });
  }

  static async of(address: string): Promise<Document> {
    const whole = (await (await fetch(`${address}/openapi.json`)).json()) as { paths: Document["paths"] };
    return new Document(whole.paths, whole);
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
    const text = await answer.clone().text();
    if (described.content === undefined)
      return text === "" ? undefined : `${method} ${path}: a body where there is none`;
    if (!described.content[media]) return `${method} ${path} ${answer.status}: ${media} is not documented`;
    if (media !== "application/json") return undefined;
    const steps = [
      "paths",
      found!.path,
      method.toLowerCase(),
      "responses",
      `${answer.status}`,
      "content",
      media,
      "schema",
    ];
    const pointer = steps.map((step) => encodeURIComponent(step.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");
    const validate = this.#ajv.compile({ $ref: `openapi#/${pointer}` });
    if (validate(JSON.parse(text))) return undefined;
    return `${method} ${path} ${answer.status}: ${this.#ajv.errorsText(validate.errors)} in ${text.slice(0, 300)}`;
  }
}
