/** Variables that text may name. */
export type Variables = Readonly<Record<string, string>>;

/** A problem in the text of an instruction; the caller knows its line. */
export class WordError extends Error {}

/**
 * The words of a Dockerfile's instruction: quotes removed, `\` taken literally before any character, `$NAME`, `${NAME}`,
 * `${NAME:-default}` and `${NAME:+other}` replaced (Dockerfile reference, "Environment replacement"). Unknown names are
 * empty. Single quotes keep their text as it is.
 */
export function words(text: string, variables: Variables): string[] {
  return new Lexer(text, variables).words();
}

/** As {@link words}, but spaces do not end a word. */
export const wholeWord = (text: string, variables: Variables): string => new Lexer(text, variables).whole();

/** A recipe's value: `$NAME` and `${NAME}` replaced, `$$` is `$`; quotes are ordinary characters. */
export const recipeValue = (text: string, variables: Variables): string =>
  text.replace(/\$(?:\$|\{(\w+)\}|(\w+))/g, (all, braced?: string, bare?: string) => {
    const name = braced ?? bare;
    return name === undefined ? (all === "$$" ? "$" : all) : (variables[name] ?? "");
  });

class Lexer {
  #at = 0;

  constructor(
    readonly text: string,
    readonly variables: Variables,
  ) {}

  words(): string[] {
    const found: string[] = [];
    for (;;) {
      while (/\s/.test(this.#peek())) this.#at++;
      if (this.#at >= this.text.length) return found;
      found.push(this.#word(/\s/));
    }
  }

  whole(): string {
    return this.#word(undefined);
  }

  #peek(): string {
    return this.text[this.#at] ?? "";
  }

  /** Reads until an unquoted character that `end` matches. */
  #word(end: RegExp | undefined): string {
    let value = "";
    while (this.#at < this.text.length && !end?.test(this.#peek())) {
      const char = this.#peek();
      if (char === "'") value += this.#singleQuoted();
      else if (char === '"') value += this.#doubleQuoted();
      else if (char === "\\") value += this.#escaped();
      else if (char === "$") value += this.#variable();
      else value += this.#take();
    }
    return value;
  }

  #take(): string {
    return this.text[this.#at++] ?? "";
  }

  #escaped(): string {
    this.#at++;
    return this.#take();
  }

  #singleQuoted(): string {
    const end = this.text.indexOf("'", this.#at + 1);
    if (end < 0) throw new WordError("a single quote is not closed");
    const value = this.text.slice(this.#at + 1, end);
    this.#at = end + 1;
    return value;
  }

  #doubleQuoted(): string {
    this.#at++;
    let value = "";
    while (this.#peek() !== '"') {
      if (this.#at >= this.text.length) throw new WordError("a double quote is not closed");
      if (this.#peek() === "$") value += this.#variable();
      else if (this.#peek() === "\\" && /["\\$]/.test(this.text[this.#at + 1] ?? "")) value += this.#escaped();
      else value += this.#take();
    }
    this.#at++;
    return value;
  }

  #variable(): string {
    this.#at++;
    if (this.#peek() !== "{") {
      const name = /^\w+/.exec(this.text.slice(this.#at))?.[0];
      if (name === undefined) return "$";
      this.#at += name.length;
      return this.variables[name] ?? "";
    }
    this.#at++;
    const name = /^\w*/.exec(this.text.slice(this.#at))![0];
    this.#at += name.length;
    const operator = /^:?[-+]|^:\?/.exec(this.text.slice(this.#at))?.[0] ?? "";
    this.#at += operator.length;
    const other = this.#word(/\}/);
    if (!name || this.#take() !== "}" || (operator === "" && other !== ""))
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it shows what to write
      throw new WordError("a variable is not written as ${NAME}, ${NAME:-default} or ${NAME:+other}");
    return this.#chosen(name, operator, other);
  }

  #chosen(name: string, operator: string, other: string): string {
    const value = this.variables[name];
    const isSet = operator.startsWith(":") ? value !== undefined && value !== "" : value !== undefined;
    if (operator.endsWith("-")) return isSet ? value! : other;
    if (operator.endsWith("+")) return isSet ? other : "";
    if (operator.endsWith("?") && !isSet) throw new WordError(`${name} is not set${other ? `: ${other}` : ""}`);
    return value ?? "";
  }
}
