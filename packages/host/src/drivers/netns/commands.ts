import { WrennError } from "@wrenn/contract";

const searched = `${process.env.PATH}:/usr/sbin:/sbin`;

/** Runs a program with text as its input. Throws `agent_error` with what it said. */
export async function run(argv: readonly string[], input = ""): Promise<string> {
  const child = Bun.spawn([...argv], {
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, PATH: searched },
  });
  const [out, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) === 0) return out;
  throw new WrennError("agent_error", `${argv.slice(0, 3).join(" ")} failed: ${said.trim()}`);
}

/** The programs that networks are made with and this machine lacks. */
export const missingCommands = (): string[] =>
  ["ip", "nft", "tc", "nsenter"].filter((name) => !Bun.which(name, { PATH: searched }));
