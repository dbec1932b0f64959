import { expect, test } from "bun:test";
import { FlagError, readFlags } from "../src/flags.ts";

const main = `${import.meta.dir}/../src/main.ts`;

test("flags are read in every common spelling", () => {
  expect(readFlags(["--port", "0", "--host=::1", "-isnotfc", "--cmd", "a=b --c"])).toEqual({
    port: 0,
    host: "::1",
    isnotfc: true,
    cmd: "a=b --c",
  });
  for (const help of ["-h", "-help", "--help"]) expect(readFlags([help])).toEqual({ help: true });
  expect(readFlags([])).toEqual({});
});

test.each(["--nope", "port", "--port", "--port x", "--port 70000", "--help=yes"])("%s is refused", (line) => {
  expect(() => readFlags(line.split(" "))).toThrow(FlagError);
});

test("the program says when it is ready, starts its command, and stops on SIGTERM", async () => {
  const argv = ["bun", main, "--port", "0", "--host", "127.0.0.1", "--isnotfc", "--cmd", "sleep 300"];
  const child = Bun.spawn(argv, { stdout: "pipe", stderr: "inherit" });
  const { value } = await child.stdout.getReader().read();
  const { ready, address } = JSON.parse(Buffer.from(value!).toString());
  expect(ready).toBe(true);
  const headers = { "Content-Type": "application/json" };
  const listed = await fetch(`${address}/process.Process/List`, { method: "POST", body: "{}", headers });
  const [first] = ((await listed.json()) as { processes: { tag: string; pid: number }[] }).processes;
  expect(first?.tag).toBe("init-cmd");
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});

test("a mistake on the command line ends with status 2 and names it", async () => {
  const child = Bun.spawn(["bun", main, "--prot", "1"], { stdout: "pipe", stderr: "pipe" });
  expect(await child.exited).toBe(2);
  expect(await new Response(child.stderr).text()).toContain("--prot");
});
