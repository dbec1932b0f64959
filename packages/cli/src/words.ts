import { WrennError } from "wrenn";

/** What the API calls by a route, and a person at the command line by a command. The longer routes come first. */
const commands: readonly (readonly [route: RegExp, command: string])[] = [
  [/`?GET \/v1\/capsules(?:\?name=)?(?![\w/])`?/g, "`wrenn ls`"],
  [/`?GET \/v1\/volumes(?![\w/])`?/g, "`wrenn volume ls`"],
  [/`?GET \/v1\/templates\/([\w.-]+)`?/g, "`wrenn template inspect $1`"],
  [/`?DELETE \/v1\/templates\/([\w.-]+)`?/g, "`wrenn template rm $1`"],
  [/`?GET \/v1\/templates(?![\w/])`?/g, "`wrenn template ls`"],
  [/`?GET \/v1\/builds(?![\w/])`?/g, "`wrenn template builds`"],
  [/`?GET \/v1\/snapshots(?![\w/])`?/g, "`wrenn snapshots ls`"],
  [/`?GET \/v1\/hosts(?![\w/])`?/g, "`wrenn host ls`"],
  [/`?POST \/v1\/hosts\/\{host\}\/drain`?/g, "`wrenn host drain ID`"],
  [/`?POST \/v1\/capsules\/\{id\}\/ports\/\{port\}`?/g, "`wrenn port ID PORT`"],
  [/Send a valid key in the header X-API-Key/g, "Set WRENN_API_KEY to a valid key"],
  [/Set WRENN_API_KEY, pass `apiKey`, or/g, "Set WRENN_API_KEY, or"],
  [/in WRENN_BASE_URL or `baseUrl`/g, "in WRENN_BASE_URL"],
];

/** Options that fill the fields of requests in which they are not called alike. */
const options: Readonly<Record<string, string>> = {
  memory_mb: "--memory",
  disk_size_mb: "--disk",
  timeout_sec: "--timeout",
  timeout_action: "--timeout-action",
  expires_sec: "--expires",
  envs: "--env",
  volumes: "--volume",
};

/** What stands before the cause when the server refuses a field of a request. */
const refusedField = /^(?:body|query|path) field "[^"]*": /;

/** Whether the server refused what one field of a request says: the command line was wrong, though well formed. */
export const isRefusedField = (error: unknown): error is WrennError =>
  error instanceof WrennError && error.code === "invalid_request" && error.details?.field !== undefined;

/** A server's remedy as it is followed at the command line, where nobody sends requests. */
export const spoken = (text: string): string =>
  commands.reduce((said, [route, command]) => said.replace(route, command), text);

/**
 * An error in the words of the command line: routes are commands, fields are options of `command`, such as
 * `wrenn create`. What is no error of the server passes unchanged.
 */
export function inOwnWords(thrown: unknown, command: string): unknown {
  if (!(thrown instanceof WrennError)) return thrown;
  const { code, details, message, remedy, cause } = thrown;
  if (!isRefusedField(thrown)) {
    const parts = { details, cause, remedy: remedy && spoken(remedy) };
    return new WrennError(code, spoken(message), parts);
  }
  const field = details!.field!.split(".")[0]!;
  const problem = `${options[field] ?? field}: ${message.replace(refusedField, "")}`;
  return new WrennError(code, problem, { details, cause, remedy: `See \`${command} --help\`.` });
}
