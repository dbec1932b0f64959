import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, rm, symlink } from "node:fs/promises";
import { SQL } from "bun";
import * as e2b from "e2b";
import { Human } from "./support/people.ts";
import { apiKey, Plane } from "./support/plane.ts";

/** Every class of error that the published SDK tells its users of, each from what really leads to it. */

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const { Sandbox, Secret, Template, Volume } = e2b;
const isRoot = process.getuid?.() === 0;
const variables = ["E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_VOLUME_API_URL"] as const;

let plane: Plane;
let sql: SQL;
let box: e2b.Sandbox;
/** A folder of the guest's, which is a folder of this machine. */
let dir: string;
/** A git server that lets nobody in. */
let closed: Bun.Server<undefined>;
beforeAll(async () => {
  plane = await Plane.start();
  sql = new SQL(plane.options.databaseUrl, { max: 1 });
  for (const name of variables) process.env[name] = plane.address;
  process.env.E2B_API_KEY = apiKey.replace("wrn_", "e2b_");
  box = await Sandbox.create("minimal");
  dir = plane.guest.dir;
  const realm = { "www-authenticate": 'Basic realm="closed"' };
  closed = Bun.serve({
    ...{ port: 0, hostname: "127.0.0.1" },
    fetch: () => new Response("no", { status: 401, headers: realm }),
  });
});
afterEach(() => plane.host.heal());
afterAll(async () => {
  for (const name of variables) delete process.env[name];
  await closed?.stop(true);
  await sql?.close();
  await plane[Symbol.asyncDispose]();
});

type Cause = { what: string; needs?: string; words?: RegExp; act: () => Promise<unknown> };

/** A login shell of this machine's user would read a profile that does anything; of this folder's it reads none. */
const plain = () => ({ envs: { HOME: dir } });

/** A team whose limit is reached. */
async function fullTeam(): Promise<{ apiKey: string; retries: number }> {
  const admin = await Human.join(plane, "Ann");
  const member = await Human.join(plane, "Bob");
  await admin.ask("PUT", `/v1/admin/teams/${member.auth.team_id}/quotas`, { sandboxes: 0 });
  const { body } = await member.ask<{ key: string }>("POST", "/v1/api-keys", {});
  return { apiKey: body.key.replace("wrn_", "e2b_"), retries: 0 };
}

/** Fails while the disk that `act` writes to has 64 KiB. */
async function onSmallDisk(act: (at: string) => Promise<unknown>): Promise<unknown> {
  const at = `${dir}/small`;
  await mkdir(at);
  await Bun.$`mount -t tmpfs -o size=64k,mode=777 wrenn-test ${at}`.quiet();
  try {
    return await act(at);
  } finally {
    await Bun.$`umount ${at}`.quiet();
  }
}

/** Fails while the database takes no archives. */
async function withoutUploads(act: () => Promise<unknown>): Promise<unknown> {
  await sql`alter table build_file_parts add constraint nothing check (false) not valid`;
  try {
    return await act();
  } finally {
    await sql`alter table build_file_parts drop constraint nothing`;
  }
}

async function repositoryWithRemote(): Promise<string> {
  const path = `${dir}/repository-${crypto.randomUUID()}`;
  await box.git.init(path, { initialBranch: "main", ...plain() });
  await box.git.remoteAdd(path, "origin", `${path}.git`, plain());
  return path;
}

const lines = (text: string) => Template({ fileContextPath: dir }).fromTemplate("minimal").runCmd(text);

/** By the name of the class. A class of which others are kinds is told itself where none of those fits. */
const causes: Record<string, Cause[]> = {
  AuthenticationError: [
    {
      what: "a key that nobody has",
      words: /API key is not known/,
      act: () => Sandbox.list({ apiKey: `e2b_${"0".repeat(40)}` }).nextItems(),
    },
    {
      what: "a user that the sandbox does not have",
      words: /invalid username: 'nobody-here'/,
      act: () => box.commands.run("true", { user: "nobody-here" as "user" }),
    },
    {
      what: "a user that it does not have, for a file",
      act: () => box.files.read("x", { user: "nobody-here" as "user" }),
    },
  ],
  BuildError: [
    {
      what: "a step before the first",
      words: /no template "nothing"/,
      act: () => Template.build(Template().fromTemplate("nothing"), "broken"),
    },
    { what: "a name that cannot be one", act: () => Template.build(lines("true"), "not a name") },
  ],
  CommandExitError: [{ what: "a command that fails", act: () => box.commands.run("exit 7", plain()) }],
  FileNotFoundError: [
    { what: "a file that is not there", words: /does not exist/, act: () => box.files.read(`${dir}/nothing`) },
    { what: "a folder that is not there", act: () => box.files.list(`${dir}/nothing`) },
    { what: "a rename of nothing", act: () => box.files.rename(`${dir}/nothing`, `${dir}/else`) },
    { what: "a watch on nothing", act: () => box.files.watchDir(`${dir}/nothing`, () => {}) },
    {
      what: "a link that leads nowhere",
      act: async () => {
        await symlink(`${dir}/nothing`, `${dir}/broken`);
        return await box.files.read(`${dir}/broken`);
      },
    },
  ],
  FileUploadError: [
    {
      what: "a database that takes no archive",
      act: async () => {
        await Bun.write(`${dir}/copied.txt`, "x");
        return await withoutUploads(() => Template.build(lines("true").copy("copied.txt", "/"), "uploaded"));
      },
    },
  ],
  GitAuthError: [
    {
      what: "a repository that asks who is there",
      act: () => box.git.clone(`http://127.0.0.1:${closed.port}/private.git`, { path: `${dir}/clone`, ...plain() }),
    },
  ],
  GitUpstreamError: [
    { what: "a pull without a remote's branch", act: async () => box.git.pull(await repositoryWithRemote(), plain()) },
  ],
  InvalidArgumentError: [
    { what: "a folder that is read as a file", words: /is a directory/, act: () => box.files.read(dir) },
    { what: "a file that is listed as a folder", act: () => box.files.list(Bun.main) },
    { what: "a file over a folder", act: () => box.files.write(dir, "x") },
    { what: "a working folder that is not there", act: () => box.commands.run("true", { cwd: `${dir}/nothing` }) },
  ],
  NotEnoughSpaceError: [
    {
      ...{ what: "a file that the disk does not hold", needs: "root, who can mount a small disk" },
      act: () => onSmallDisk((at) => box.files.write(`${at}/large`, "x".repeat(1_000_000))),
    },
  ],
  NotFoundError: [
    { what: "a process that is not there", act: () => box.commands.connect(999_999) },
    { what: "the input of a process that is not there", act: () => box.commands.sendStdin(999_999, "x") },
  ],
  RateLimitError: [
    {
      what: "a team's limit",
      words: /quota of sandboxes/,
      act: async () => Sandbox.create("minimal", await fullTeam()),
    },
  ],
  SandboxError: [
    { what: "a template that is not there", words: /^404: .*"nothing"/, act: () => Sandbox.create("nothing") },
    {
      what: "the interpreter's template before it was built",
      words: /^404: .*"code-interpreter-v1".*`make code-interpreter`/,
      act: () => Sandbox.create("code-interpreter-v1"),
    },
    {
      what: "a gateway that is not there",
      words: /^404: The option `mcp` needs a gateway/,
      act: () => Sandbox.create({ mcp: { time: {} } } as never),
    },
    {
      what: "rules that mean nothing",
      words: /^400: /,
      act: () => Sandbox.create("minimal", { network: { denyOut: ["no address"] } }),
    },
  ],
  SandboxNotFoundError: [
    { what: "what is told of one that is killed", act: async () => (await killed()).getInfo() },
    { what: "a connection to one that is killed", act: async () => (await killed()).connect() },
    { what: "a pause of one that is killed", act: async () => (await killed()).pause() },
    { what: "a time-out of one that is killed", act: async () => (await killed()).setTimeout(1) },
    { what: "a fork of one that is killed", act: async () => (await killed()).fork() },
    { what: "a command in one that is killed", act: async () => (await killed()).commands.run("true") },
    { what: "an id that no sandbox has", act: () => Sandbox.getInfo("nonexistingsandbox") },
  ],
  SecretError: [
    {
      what: "a name that is taken",
      words: /^409: /,
      act: async () => {
        await Secret.create("taken", "x");
        return await Secret.create("taken", "y");
      },
    },
  ],
  SecretNotFoundError: [{ what: "a secret that is not there", act: () => Secret.getInfo("nothing") }],
  ServiceBusyError: [
    {
      what: "no host that has room",
      act: () => {
        plane.host.script("create", "2*error(no_hosts_available)->off");
        return Sandbox.create("minimal");
      },
    },
  ],
  TemplateError: [{ what: "the tags of a template that is not there", act: () => Template.getTags("nothing") }],
  TimeoutError: [
    { what: "a command that takes too long", act: () => box.commands.run("sleep 60", { timeoutMs: 200 }) },
    {
      what: "a file of one that is killed",
      words: /was not found/,
      act: async () => (await killed()).files.read("/x"),
    },
  ],
  VolumeError: [
    {
      what: "a name that is taken",
      words: /^409: /,
      act: async () => {
        await Volume.create("taken");
        return await Volume.create("taken");
      },
    },
  ],
  VolumeNotFoundError: [{ what: "a volume that is not there", act: () => Volume.connect(`vol_${"0".repeat(25)}`) }],
};

/** Told of by the host, whose answers the tests with real volumes hold. */
const elsewhere = ["VolumePathNotFoundError"];

async function killed(): Promise<e2b.Sandbox> {
  const sandbox = await Sandbox.create("minimal");
  await sandbox.kill();
  return sandbox;
}

for (const [name, all] of Object.entries(causes))
  describe(`${name} is told for`, () => {
    for (const { what, needs, words, act } of all)
      (needs && !isRoot ? test.skip : test)(
        needs && !isRoot ? `${what} — skipped: it needs ${needs}` : what,
        async () => {
          const thrown = await act().then(
            (value) => value,
            (error) => error,
          );
          expect([thrown?.constructor?.name ?? thrown, `${thrown?.message}`]).toEqual([
            name,
            words ? expect.stringMatching(words) : expect.any(String),
          ]);
        },
      );
  });

test("no class is without a cause", async () => {
  const exported = Object.entries(e2b).filter(([, one]) => typeof one === "function" && one.prototype instanceof Error);
  const known = [...Object.keys(causes), ...elsewhere].sort();
  expect(exported.map(([name]) => name).sort()).toEqual(known);
  await rm(`${dir}/broken`, { force: true });
});
