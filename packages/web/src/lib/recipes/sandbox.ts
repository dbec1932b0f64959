import { curl, type Recipe } from "./recipe.ts";

const createOne: Recipe = {
  title: "Create one and run a command",
  cli: "id=$(wrenn create -t base)\nwrenn exec $id -- uname -a",
  sdk: 'import { Sandbox } from "wrenn";\n\nawait using sandbox = await Sandbox.create({ template: "base" });\nconst { stdout } = await sandbox.commands.run("uname -a");',
  curl: curl("POST /v1/capsules", { template: "base" }),
};

const followAll: Recipe = {
  title: "Follow what happens",
  sdk: "for await (const event of client.events()) console.log(event.kind, event.resource.id);",
  curl: `curl -N ${location.origin}/v1/events/stream \\\n  -H "X-API-Key: $WRENN_API_KEY"`,
};

/** What home shows and begins. */
export const homeRecipes = (): Recipe[] => [
  createOne,
  followAll,
  { title: "Figures over time", curl: curl("GET /v1/capsules/stats?range=1h") },
  { title: "Templates there are", cli: "wrenn templates", sdk: "const templates = await client.templates();" },
];

/** What can be done with the list of sandboxes. */
export const listRecipes = (): Recipe[] => [
  createOne,
  {
    title: "List them",
    cli: "wrenn ls",
    sdk: "for (const { id, status } of await Sandbox.list()) console.log(id, status);",
    curl: curl("GET /v1/capsules"),
  },
  followAll,
  { title: "Follow their load", cli: "wrenn top" },
];

const life = (id: string): Recipe[] => [
  {
    title: "Name it",
    cli: `wrenn rename ${id} build`,
    sdk: 'await sandbox.update({ name: "build" });',
    curl: curl(`PATCH /v1/capsules/${id}`, { name: "build" }),
  },
  {
    title: "Get a handle of it",
    sdk: `import { Sandbox } from "wrenn";\n\nconst sandbox = await Sandbox.connect("${id}");`,
  },
  {
    title: "Pause",
    cli: `wrenn pause ${id}`,
    sdk: "await sandbox.pause();",
    curl: curl(`POST /v1/capsules/${id}/pause`),
  },
  {
    title: "Resume",
    cli: `wrenn resume ${id}`,
    sdk: "await sandbox.resume();",
    curl: curl(`POST /v1/capsules/${id}/resume`),
  },
  {
    title: "Change its time-out",
    sdk: "await sandbox.setTimeout(10 * 60_000);",
    curl: curl(`POST /v1/capsules/${id}/timeout`, { timeout_sec: 600 }),
  },
  { title: "Destroy", cli: `wrenn rm ${id}`, sdk: "await sandbox.kill();", curl: curl(`DELETE /v1/capsules/${id}`) },
];

const inside: Record<string, (id: string) => Recipe[]> = {
  "": (id) => [
    {
      title: "A terminal",
      cli: `wrenn shell ${id}`,
      sdk: "const terminal = await sandbox.pty.create({ cols: 80, rows: 24, onData: (bytes) => process.stdout.write(bytes) });",
    },
    {
      title: "Run a command",
      cli: `wrenn exec ${id} -- ls -l`,
      sdk: 'const { stdout, exitCode } = await sandbox.commands.run("ls -l");',
      curl: curl(`POST /v1/capsules/${id}/exec`, { cmd: "ls", args: ["-l"] }),
    },
  ],
  "/files": (id) => [
    {
      title: "List a folder",
      cli: `wrenn exec ${id} -- ls -la`,
      sdk: 'const entries = await sandbox.files.list("/home/user");',
      curl: curl(`POST /v1/capsules/${id}/files/list`, { path: "/home/user" }),
    },
    {
      title: "Read a file",
      cli: `wrenn cp ${id}:/etc/hostname -`,
      sdk: 'const text = await sandbox.files.read("/etc/hostname");',
      curl: curl(`POST /v1/capsules/${id}/files/read`, { path: "/etc/hostname" }),
    },
    {
      title: "Write a file",
      cli: `echo hello | wrenn cp - ${id}:/home/user/hello.txt`,
      sdk: 'await sandbox.files.write("/home/user/hello.txt", "hello");',
      curl: `curl -X POST ${location.origin}/v1/capsules/${id}/files/write \\\n  -H "X-API-Key: $WRENN_API_KEY" \\\n  -F path=/home/user/hello.txt -F file=@hello.txt`,
    },
    { title: "Copy a folder", cli: `wrenn cp ./project ${id}:/home/user/project` },
    {
      title: "Rename, remove, make a folder",
      sdk: 'await sandbox.files.rename("a.txt", "b.txt");\nawait sandbox.files.remove("b.txt");\nawait sandbox.files.makeDir("/home/user/new");',
      curl: curl(`POST /v1/capsules/${id}/files/remove`, { path: "/home/user/b.txt" }),
    },
  ],
  "/processes": (id) => [
    {
      title: "List",
      cli: `wrenn ps ${id}`,
      sdk: "const processes = await sandbox.commands.list();",
      curl: curl(`GET /v1/capsules/${id}/processes`),
    },
    {
      title: "Send a signal",
      cli: `wrenn kill ${id} PID`,
      sdk: 'await sandbox.commands.kill(pid, "SIGTERM");',
      curl: curl(`DELETE /v1/capsules/${id}/processes/PID?signal=SIGTERM`),
    },
  ],
  "/logs": (id) => [
    {
      title: "Follow the log",
      cli: `wrenn logs -f ${id}`,
      sdk: `for await (const { message } of Sandbox.followLogs("${id}")) console.log(message);`,
      curl: `curl -N '${location.origin}/v1/capsules/${id}/logs?follow=true' \\\n  -H "X-API-Key: $WRENN_API_KEY"`,
    },
  ],
  "/metrics": (id) => [
    {
      title: "Load over time",
      cli: `wrenn stats ${id} --range 1h`,
      sdk: 'const points = await sandbox.metrics({ range: "1h" });',
      curl: curl(`GET /v1/capsules/${id}/metrics?range=1h`),
    },
  ],
  "/ports": (id) => [
    {
      title: "A link to a port",
      cli: `wrenn port ${id} 8000 --expires 1h`,
      sdk: "const { signedUrl } = await sandbox.openPort(8000);",
      curl: curl(`POST /v1/capsules/${id}/ports/8000`, { expires_sec: 3600 }),
    },
    { title: "A port of it on this machine", cli: `wrenn forward ${id} 8000` },
  ],
  "/network": (id) => [
    {
      title: "What it may reach, reached, and was refused",
      cli: `wrenn network ${id}`,
      sdk: "const { policy, connections, denials } = await sandbox.network();",
      curl: curl(`GET /v1/capsules/${id}/network`),
    },
    {
      title: "Let it reach only what is listed",
      cli: `wrenn network ${id} --no-internet --allow pypi.org --allow '*.pythonhosted.org'`,
      sdk: 'await sandbox.setNetwork({ internet: false, allow: ["pypi.org", "*.pythonhosted.org"] });',
      curl: curl(`PUT /v1/capsules/${id}/network`, { internet: false, allow: ["pypi.org"] }),
    },
  ],
  "/snapshots": (id) => [
    {
      title: "Checkpoint",
      cli: `wrenn checkpoint ${id} --name before`,
      sdk: 'const point = await sandbox.checkpoint({ name: "before" });',
      curl: curl(`POST /v1/capsules/${id}/checkpoint`, { name: "before" }),
    },
    {
      title: "Fork",
      cli: `wrenn fork ${id}`,
      sdk: "const [copy] = await sandbox.fork();",
      curl: curl(`POST /v1/capsules/${id}/fork`, { count: 1 }),
    },
    {
      title: "Roll back",
      cli: `wrenn rollback ${id} before`,
      sdk: 'await sandbox.rollback("before");',
      curl: curl(`POST /v1/capsules/${id}/rollback`, { snapshot: "before" }),
    },
    {
      title: "Compare two points in time",
      cli: `wrenn diff before ${id}`,
      sdk: `const { added, changed, removed } = await compare(client, { snapshot: "before" }, { sandbox: "${id}" });`,
    },
    {
      title: "Delete a snapshot",
      cli: "wrenn snapshots rm before",
      sdk: 'await client.snapshots.delete("before");',
      curl: curl("DELETE /v1/snapshots/before"),
    },
  ],
  "/events": (id) => [{ title: "What happened to it", curl: curl(`GET /v1/events?resource=${id}`) }],
};

/** What can be done with one sandbox on a tab of its page, then its life. */
export const sandboxRecipes = (id: string, tab: string): Recipe[] => [...(inside[tab]?.(id) ?? []), ...life(id)];
