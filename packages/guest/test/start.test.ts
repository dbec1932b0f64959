import { expect, test } from "bun:test";

/** Starts an agent in a process of its own and prints the files that it has loaded: at the start, and after a call. */
const program = `
  const { start } = await import("./src/index.ts");
  const loaded = () => Object.keys(require.cache).filter((path) => path.endsWith(".ts"));
  const agent = start({ port: 0, host: "127.0.0.1", isNotVm: true });
  const atStart = loaded();
  const headers = { "content-type": "application/json" };
  const answer = await fetch(agent.address + "/process.Process/List", { method: "POST", headers, body: "{}" });
  console.log(JSON.stringify({ atStart, answer: await answer.json(), afterCall: loaded() }));
  await agent.stop();
`;

test("an agent reads no description of a message before its first call", async () => {
  const child = Bun.spawn([process.execPath, "-e", program], { cwd: `${import.meta.dir}/..`, stderr: "inherit" });
  const { atStart, answer, afterCall } = JSON.parse(await new Response(child.stdout).text());
  const described = (files: string[]) => files.filter((path) => path.endsWith("_pb.ts")).length;
  expect(atStart.length).toBeGreaterThan(0);
  expect(described(atStart)).toBe(0);
  expect(answer).toEqual({});
  expect(described(afterCall)).toBeGreaterThan(0);
});
