/** Templates that come with Wrenn but are built by a command of their own, for they are large: name and command. */
const separately: Readonly<Record<string, string>> = {
  "code-interpreter": "make code-interpreter",
  "code-interpreter-v1": "make code-interpreter",
  "code-runner-beta": "make code-interpreter",
};

/** What to do about a template that is not there. `known` are the names of those that are. */
export function remedyForTemplate(name: string, known: readonly string[]): string {
  const command = separately[name];
  if (command)
    return `Run \`${command}\` where Wrenn was built, once: it takes some minutes, and a server that runs takes it up.`;
  return known.length > 0 ? `Use one of: ${known.join(", ")}.` : "Build the usual ones with `make images`.";
}
