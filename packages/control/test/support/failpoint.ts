import { type Code, isCode, WrennError } from "@wrenn/contract";

/**
 * A script such as `1*off->1*error(no_hosts_available)->off`: each term is used that many times, the last for ever.
 * `error(code)` throws that code, `hang` never returns, `off` does nothing.
 */
export function failpoint(script: string): () => Promise<void> {
  const terms = script.split("->").map((text) => {
    const match = /^(?:(\d+)\*)?(off|error|hang)(?:\((.*)\))?$/.exec(text.trim());
    if (!match) throw new Error(`bad failpoint term: ${text}`);
    return { left: match[1] ? Number(match[1]) : Number.POSITIVE_INFINITY, kind: match[2], argument: match[3] };
  });
  return async () => {
    const term = terms.find(({ left }) => left > 0);
    if (!term) return;
    term.left--;
    if (term.kind === "hang") await new Promise(() => {});
    if (term.kind === "error")
      throw new WrennError(codeOf(term.argument), "failpoint", { remedy: "Remove the failpoint." });
  };
}

const codeOf = (text: string | undefined): Code => (isCode(text) ? text : "internal_error");
