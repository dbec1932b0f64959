import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import {
  CommandExitError,
  FileNotFoundError,
  NotFoundError,
  Sandbox,
  SandboxNotFoundError,
  Secret,
  Template,
  TemplateBase,
  TimeoutError,
  Volume,
  VolumeNotFoundError,
  VolumePathNotFoundError,
} from "e2b";
import { Sandbox as EarlySandbox } from "e2b-early";
import { Methods } from "../support/e2b-methods.ts";
import { checkTable, exceptions } from "../support/e2b-table.ts";
import { until } from "../support/processes.ts";
import { nothingLeft, repository, System } from "../support/system.ts";

const methods = new Methods();
let system: System;
let box: Sandbox;

beforeAll(async () => {
  system = await System.start("e2b-js");
  // All that a program written for E2B is told: three variables, and a fourth where it uses volumes.
  process.env.E2B_API_KEY = system.ready.apiKey.replace(/^wrn_/, "e2b_");
  process.env.E2B_API_URL = system.ready.url;
  process.env.E2B_SANDBOX_URL = system.ready.url;
  process.env.E2B_VOLUME_API_URL = system.ready.url;
  methods.watch({ name: "Secret", on: Secret, skip: internal });
  methods.watch({ name: "Template", on: TemplateBase, skip: internal }); // what `Template` shows is its
  methods.watch({ name: "Volume", on: Volume, skip: internal });
  methods.watch({ name: "volume", on: Volume.prototype, skip: internal });
  methods.watch({ name: "Sandbox", on: Object.getPrototypeOf(Sandbox), skip: internal });
  methods.watch({ name: "Sandbox", on: Sandbox, skip: internal });
  methods.watch({ name: "sandbox", on: Sandbox.prototype, skip: internal });
  box = await Sandbox.create("base", { envs: { FROM_CREATE: "yes" }, metadata: { suite: "js" } });
  for (const [name, on] of [
    ["sandbox.commands", box.commands],
    ["sandbox.files", box.files],
    ["sandbox.pty", box.pty],
    ["sandbox.git", box.git],
  ] as const)
    methods.watch({ name, on: Object.getPrototypeOf(on), skip: internal });
});

afterAll(async () => {
  for (const name of ["E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_VOLUME_API_URL"]) delete process.env[name];
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Not for users: the SDK's own steps, which the others call. */
const internal = [
  ...["createSandbox", "forkSandbox", "connectSandbox", "resolveApiOpts", "fileUrl"],
  ...["runGit", "runShell", "getRemoteUrl", "resolveRemoteName", "withRemoteCredentials", "hasUpstream"],
  ...["flushDecoders", "iterateEvents", "handleEvents"],
  ...["start", "toWriteInfo", "writeFile", "uploadFiles", "compose", "checkStdin", "isVersion", "get", "fromFormData"],
];

const sh = async (line: string, sandbox = box) => (await sandbox.commands.run(line)).stdout.trimEnd();
/** What a host name of the SDK leads to, by a client whose resolver knows no wildcard. */
const visit = (sandbox: Sandbox, port: number, path = "/", headers: Record<string, string> = {}) =>
  fetch(system.ready.url + path, { headers: { host: sandbox.getHost(port), ...headers } });

describe("commands", () => {
  test("run with their user, folder and environment; failures carry code and output", async () => {
    expect(await sh("whoami; pwd; echo $FROM_CREATE")).toBe("user\n/home/user\nyes");
    const asked = { user: "root", cwd: "/var/tmp", envs: { A: "b" } } as const;
    expect((await box.commands.run("whoami; pwd; echo $A", asked)).stdout).toBe("root\n/var/tmp\nb\n");
    const failed = await box.commands.run("echo out; echo err >&2; exit 7").catch((thrown) => thrown);
    expect(failed).toBeInstanceOf(CommandExitError);
    expect(failed).toMatchObject({ exitCode: 7, stdout: "out\n", stderr: "err\n" });
  });

  test("stream both outputs while they run", async () => {
    const said: string[] = [];
    await box.commands.run("echo one; echo two >&2", {
      onStdout: (text) => void said.push(`out ${text}`),
      onStderr: (text) => void said.push(`err ${text}`),
    });
    expect(said.sort()).toEqual(["err two\n", "out one\n"]);
  });

  test("in the background are listed, fed, attached to, signalled and killed", async () => {
    const reader = await box.commands.run("cat", { background: true, stdin: true });
    methods.watch({ name: "commandHandle", on: Object.getPrototypeOf(reader), skip: internal });
    expect((await box.commands.list()).map(({ pid }) => pid)).toContain(reader.pid);
    await box.commands.sendStdin(reader.pid, "fed\n");
    await box.commands.closeStdin(reader.pid);
    expect((await reader.wait()).stdout).toBe("fed\n");
    const sleeper = await box.commands.run("sleep 600", { background: true });
    const attached = await box.commands.connect(sleeper.pid);
    expect(await box.commands.kill(sleeper.pid)).toBe(true);
    expect(await attached.wait().catch((thrown) => thrown.exitCode)).toBe(-1);
    expect(await box.commands.kill(sleeper.pid)).toBe(false);
  });

  test("are fed, left and killed by their handle", async () => {
    const reader = await box.commands.run("cat", { background: true, stdin: true });
    await reader.sendStdin("by its handle\n");
    await reader.closeStdin();
    expect((await reader.wait()).stdout).toBe("by its handle\n");
    const sleeper = await box.commands.run("sleep 600", { background: true });
    const second = await box.commands.connect(sleeper.pid);
    await second.disconnect();
    expect(await sleeper.kill()).toBe(true);
  });

  test("that take longer than allowed are ended", async () => {
    const late = await box.commands.run("sleep 60", { timeoutMs: 1_000 }).catch((thrown) => thrown);
    expect(late).toBeInstanceOf(TimeoutError);
  });

  test("twenty at once, twice, lose nothing", async () => {
    const one = async (i: number) => expect((await box.commands.run(`echo ${i}`)).stdout).toBe(`${i}\n`);
    for (let at = 0; at < 40; at += 20) await Promise.all(Array.from({ length: 20 }, (_, i) => one(at + i)));
  }, 180_000); // an emulated guest starts a login shell in half a second, one after the other
});

test("a terminal is opened, resized, typed into, attached to and killed", async () => {
  let seen = "";
  const onData = (bytes: Uint8Array) => {
    seen += new TextDecoder().decode(bytes);
  };
  const terminal = await box.pty.create({ cols: 80, rows: 24, onData, timeoutMs: 0 });
  await box.pty.resize(terminal.pid, { cols: 111, rows: 33 });
  await box.pty.sendInput(terminal.pid, new TextEncoder().encode("stty size; echo in-$((6*7))\n"));
  await until("the answer", () => /33 111[\s\S]*in-42/.test(seen));
  await terminal.disconnect();
  seen = "";
  await box.pty.connect(terminal.pid, { onData });
  await box.pty.sendInput(terminal.pid, new TextEncoder().encode("echo again\n"));
  await until("the second answer", () => seen.includes("again"));
  expect(await box.pty.kill(terminal.pid)).toBe(true);
});

describe("files", () => {
  test("are written, read in every format, described, moved and removed", async () => {
    await box.files.write("a/b.txt", "hällo");
    expect(await box.files.read("a/b.txt")).toBe("hällo");
    expect(await box.files.read("a/b.txt", { format: "bytes" })).toEqual(new TextEncoder().encode("hällo"));
    expect(await (await box.files.read("a/b.txt", { format: "blob" })).text()).toBe("hällo");
    expect(await new Response(await box.files.read("a/b.txt", { format: "stream" })).text()).toBe("hällo");
    const written = await box.files.writeFiles([
      { path: "a/1", data: "1" },
      { path: "a/2", data: new Blob(["22"]) },
    ]);
    expect(written.map(({ path }) => path)).toEqual(["/home/user/a/1", "/home/user/a/2"]);
    expect((await box.files.list("a")).map(({ name }) => name)).toEqual(["1", "2", "b.txt"]);
    expect(await box.files.getInfo("a/2")).toMatchObject({ type: "file", size: 2, mode: 0o644, owner: "user" });
    expect(await box.files.makeDir("a/dir")).toBe(true);
    expect(await box.files.makeDir("a/dir")).toBe(false);
    expect((await box.files.rename("a/1", "a/dir/one")).path).toBe("/home/user/a/dir/one");
    await box.files.remove("a/2");
    expect(await box.files.exists("a/2")).toBe(false);
    await expect(box.files.read("nope")).rejects.toBeInstanceOf(FileNotFoundError);
  });

  test("an empty one is empty, and metadata comes back", async () => {
    await box.files.write("empty", "");
    expect(await box.files.read("empty")).toBe("");
    await box.files.write("labelled", "x", { metadata: { author: "me" } });
    expect((await box.files.getInfo("labelled")).metadata).toEqual({ author: "me" });
  });

  test("a watch tells of an overwritten file, also below", async () => {
    await box.files.write("watched/deep/f", "one");
    const told: string[] = [];
    const watch = await box.files.watchDir("watched", ({ name, type }) => void told.push(`${type} ${name}`), {
      recursive: true,
    });
    methods.watch({ name: "watchHandle", on: Object.getPrototypeOf(watch), skip: internal });
    await box.files.write("watched/deep/f", "two");
    await until("the event", () => told.includes("write deep/f"));
    await watch.stop();
    expect(told.filter((event) => event.includes(".wrenn"))).toEqual([]);
  });

  test("signed URLs work without any header, and not when they are over", async () => {
    await box.files.write("signed.txt", "signed");
    expect(await (await fetch(await box.downloadUrl("signed.txt"))).text()).toBe("signed");
    const form = new FormData();
    form.append("file", "up");
    const up = await fetch(await box.uploadUrl("up.txt", { useSignatureExpiration: 60 }), {
      method: "POST",
      body: form,
    });
    expect(await up.json()).toEqual([{ path: "/home/user/up.txt", name: "up.txt", type: "file" }]);
    const over = await fetch(await box.downloadUrl("signed.txt", { useSignatureExpiration: -60 }));
    expect([over.status, await over.json()]).toEqual([401, { code: 401, message: "signature is already expired" }]);
  });
});

describe("ports", () => {
  test("serve HTTP and WebSockets at the host name that the SDK gives", async () => {
    const server = `import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000, bind="127.0.0.1")`;
    await box.commands.run(
      `mkdir -p /tmp/www && cd /tmp/www && echo page > index.html && exec python3 -c '${server}'`,
      {
        ...{ background: true, timeoutMs: 0 },
      },
    );
    await until("the server", async () => (await visit(box, 8000)).status === 200);
    expect(await (await visit(box, 8000)).text()).toBe("page\n");
    expect(await (await visit(box, 8001)).json()).toMatchObject({ code: 502, port: 8001, sandboxId: box.sandboxId });
    await box.files.write("/tmp/hello.py", speaker);
    await box.commands.run("python3 /tmp/hello.py", { background: true, timeoutMs: 0 });
    const heard = await until("a frame", () => frameOf(box, 8002).catch(() => undefined));
    expect(heard).toBe("hello");
  }, 180_000);

  test("are closed to who has no token where that was asked for", async () => {
    await using closed = disposable(await Sandbox.create("minimal", { network: { allowPublicTraffic: false } }));
    const { sandbox } = closed;
    expect((await visit(sandbox, 80)).status).toBe(403);
    const token = { "e2b-traffic-access-token": sandbox.trafficAccessToken! };
    expect((await visit(sandbox, 80, "/", token)).status).toBe(502);
    expect(await sh("echo in", sandbox)).toBe("in");
  });
});

/** A WebSocket server that says hello; Node would take an emulated guest far longer to start. */
const speaker = `
import base64, hashlib, re, socket, threading
def serve(peer):
    key = re.search(rb"(?i)sec-websocket-key: *(\\S+)", peer.recv(65536)).group(1)
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " + accept, "", ""]
    peer.sendall("\\r\\n".join(head).encode() + bytes([0x81, 5]) + b"hello")
    peer.recv(1)
server = socket.create_server(("127.0.0.1", 8002))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
`;

/** The first frame of a WebSocket to a port. */
const frameOf = (sandbox: Sandbox, port: number) =>
  new Promise<string>((resolve, reject) => {
    const options = { headers: { host: sandbox.getHost(port) } } as unknown as string[];
    const socket = new WebSocket(system.ready.url.replace("http", "ws"), options);
    socket.onmessage = ({ data }) => {
      resolve(String(data));
      socket.close();
    };
    socket.onerror = () => reject(new Error("no WebSocket"));
  });

const disposable = (sandbox: Sandbox) => ({
  sandbox,
  [Symbol.asyncDispose]: async () => void (await sandbox.kill()),
});

describe("life", () => {
  test("is told, listed in pages, and lengthened but never shortened by a connect", async () => {
    const info = await box.getInfo();
    expect(info).toMatchObject({ state: "running", templateId: "base", metadata: { suite: "js" } });
    expect((await Sandbox.getInfo(box.sandboxId)).startedAt).toEqual(info.startedAt);
    expect((await Sandbox.getFullInfo(box.sandboxId)).sandboxId).toBe(box.sandboxId);
    const listed = await Sandbox.list({ query: { metadata: { suite: "js" } } }).nextItems();
    expect(listed.map((one) => one.sandboxId)).toEqual([box.sandboxId]);
    await Sandbox.connect(box.sandboxId, { timeoutMs: 1_000 });
    expect((await box.getInfo()).endAt).toEqual(info.endAt);
    await box.setTimeout(600_000);
    await Sandbox.setTimeout(box.sandboxId, 900_000);
    expect((await box.getInfo()).endAt.getTime()).toBeGreaterThan(info.endAt.getTime() + 500_000);
    expect((await box.getMetrics()).length).toBeGreaterThan(0);
    expect((await Sandbox.getMetrics(box.sandboxId))[0]!.memTotal).toBeGreaterThan(0);
    expect(await box.getMetrics({ start: new Date(0), end: new Date(1_000) })).toEqual([]);
    await box.updateNetwork({ denyOut: ["203.0.113.0/24"] });
    expect((await box.getInfo()).network?.denyOut).toEqual(["203.0.113.0/24"]);
    await Sandbox.updateNetwork(box.sandboxId, {});
    expect((await box.getInfo()).network?.denyOut ?? []).toEqual([]);
  });

  test("ends by itself, or goes on when traffic wakes it", async () => {
    const brief = await Sandbox.create("minimal", { timeoutMs: 1_000 });
    const sleepy = await Sandbox.create("minimal", {
      ...{ timeoutMs: 60_000, lifecycle: { onTimeout: "pause", autoResume: true } },
    });
    await sleepy.setTimeout(0);
    await until("its end", async () => !(await brief.isRunning()));
    await expect(brief.getInfo()).rejects.toBeInstanceOf(SandboxNotFoundError);
    await until("its pause", async () => (await sleepy.getInfo()).state === "paused");
    const woken = await Promise.all(Array.from({ length: 10 }, () => sleepy.isRunning()));
    expect(woken).toEqual(Array(10).fill(true));
    expect(await sleepy.kill()).toBe(true);
    expect(await Sandbox.kill(sleepy.sandboxId)).toBe(false);
  });

  test("a pause keeps processes and files; a connect brings them back", async () => {
    const sleeper = await box.commands.run("sleep 600", { background: true, timeoutMs: 0 });
    expect(await box.pause()).toBe(true);
    expect(await Sandbox.pause(box.sandboxId)).toBe(false);
    expect(await box.isRunning()).toBe(false);
    await box.connect();
    expect((await box.commands.list()).map(({ pid }) => pid)).toContain(sleeper.pid);
    expect(await box.commands.kill(sleeper.pid)).toBe(true);
  });

  test("a pause without memory keeps files and gives processes up; so does a connect", async () => {
    await using paused = disposable(await Sandbox.create("minimal"));
    const { sandbox } = paused;
    await sandbox.commands.run("sleep 600", { background: true, timeoutMs: 0 });
    await sandbox.files.write("/tmp/../var/tmp/kept", "kept");
    const boot = () => sh("cat /proc/sys/kernel/random/boot_id", sandbox);
    const first = await boot();
    await sandbox.pause({ keepMemory: false });
    await sandbox.connect();
    const second = await boot();
    expect([await sandbox.files.read("/var/tmp/kept"), await sandbox.commands.list()]).toEqual(["kept", []]);
    await sandbox.files.write("/var/tmp/kept", "again");
    await sandbox.pause();
    const answer = await system.rest("POST", `/v2/sandboxes/${sandbox.sandboxId}/connect`, { memory: false });
    expect(answer.status).toBe(201);
    expect(await sandbox.files.read("/var/tmp/kept")).toBe("again");
    expect(new Set([first, second, await boot()]).size).toBe(3);
  }, 240_000); // boots twice

  test("a snapshot is a template, and a fork is a sandbox of its own", async () => {
    await box.files.write("state", "before");
    const [fork] = await box.fork();
    await using child = disposable(fork as Sandbox);
    await child.sandbox.files.write("state", "of the fork");
    expect(await box.files.read("state")).toBe("before");
    const { snapshotId } = await box.createSnapshot({ name: "js" });
    const snapshots = await box.listSnapshots().nextItems();
    expect(snapshots.map((one) => one.snapshotId)).toEqual([snapshotId]);
    expect(await Sandbox.listSnapshots({ name: "other" }).nextItems()).toEqual([]);
    await using copy = disposable(await Sandbox.create(snapshotId));
    expect(await copy.sandbox.files.read("state")).toBe("before");
    expect(await Sandbox.deleteSnapshot(snapshotId)).toBe(true);
    expect(await Sandbox.deleteSnapshot(snapshotId)).toBe(false);
    const named = await Sandbox.createSnapshot(box.sandboxId);
    await Sandbox.deleteSnapshot(named.snapshotId);
    const [other] = await Sandbox.fork(box.sandboxId);
    await (other as Sandbox).kill();
  });

  test("a kill in the middle of a command says so at once", async () => {
    const short = await Sandbox.create("minimal");
    const command = await short.commands.run("sleep 60", { background: true, timeoutMs: 0 });
    await short.kill();
    await expect(command.wait()).rejects.toThrow();
    await expect(short.commands.run("true")).rejects.toThrow();
    expect(await Sandbox.connect(short.sandboxId).catch((thrown) => thrown)).toBeInstanceOf(NotFoundError);
  });
});

test("git works as the SDK drives it: a repository, its branches, a remote and who is asked for what", async () => {
  const { git } = box;
  const path = "/home/user/repo";
  await git.init(path, { initialBranch: "main" });
  await git.configureUser("Ann", "ann@example.com", { scope: "local", path });
  await box.files.write(`${path}/a.txt`, "one");
  await git.add(path);
  expect((await git.status(path)).hasStaged).toBe(true);
  await git.commit(path, "first");
  await git.createBranch(path, "side");
  await git.checkoutBranch(path, "main");
  expect((await git.branches(path)).branches.sort()).toEqual(["main", "side"]);
  await git.deleteBranch(path, "side");
  await git.setConfig("pull.rebase", "false", { scope: "local", path });
  expect(await git.getConfig("pull.rebase", { scope: "local", path })).toBe("false");
  await sh(`git clone -q --bare ${path} /home/user/remote.git`);
  await git.remoteAdd(path, "origin", "/home/user/remote.git");
  expect(await git.remoteGet(path, "origin")).toBe("/home/user/remote.git");
  await box.files.write(`${path}/a.txt`, "two");
  await git.restore(path, { paths: ["a.txt"] });
  await git.reset(path, { mode: "hard" });
  expect(await box.files.read(`${path}/a.txt`)).toBe("one");
  await git.push(path, { remote: "origin", branch: "main" });
  await git.pull(path, { remote: "origin", branch: "main" });
  await git.clone("/home/user/remote.git", { path: "/home/user/copy" });
  expect(await box.files.read("/home/user/copy/a.txt")).toBe("one");
  await git.dangerouslyAuthenticate({
    username: "ann",
    password: "secret",
    host: "git.example.com",
    protocol: "https",
  });
}, 240_000);

test("volumes hold files that outlive every sandbox", async () => {
  const volume = await Volume.create("notes");
  expect(await volume.makeDir("/a/b", { force: true })).toMatchObject({ type: "directory", path: "/a/b" });
  const wrote = await volume.writeFile("/a/b/f.txt", "hällo", { mode: 0o600 });
  expect(wrote).toMatchObject({ type: "file", path: "/a/b/f.txt", size: 6, mode: 0o600 });
  const again = await Volume.connect(volume.volumeId);
  expect(await again.readFile("/a/b/f.txt")).toBe("hällo");
  expect(await again.readFile("/a/b/f.txt", { format: "bytes" })).toEqual(new TextEncoder().encode("hällo"));
  expect(await new Response(await again.readFile("/a/b/f.txt", { format: "stream" })).text()).toBe("hällo");
  expect((await again.list("/", { depth: 3 })).map(({ path }) => path)).toEqual(["/a", "/a/b", "/a/b/f.txt"]);
  expect(await again.updateMetadata("/a/b/f.txt", { mode: 0o644 })).toMatchObject({ mode: 0o644 });
  expect((await again.getInfo("/a/b/f.txt")).mtime.getTime()).toBeGreaterThan(0);
  await again.remove("/a/b");
  expect([await again.exists("/a/b/f.txt"), await again.exists("/a")]).toEqual([false, true]);
  await expect(again.readFile("/a/b/f.txt")).rejects.toBeInstanceOf(VolumePathNotFoundError);
  expect(await Volume.list()).toEqual([{ volumeId: volume.volumeId, name: "notes" }]);
  expect((await Volume.getInfo(volume.volumeId)).name).toBe("notes");
  expect(await Volume.destroy(volume.volumeId)).toBe(true);
  expect(await Volume.destroy(volume.volumeId)).toBe(false);
  await expect(Volume.connect(volume.volumeId)).rejects.toBeInstanceOf(VolumeNotFoundError);
});

test("a mounted volume is one folder of several sandboxes; what runs in it goes on after a pause and a killed server", async () => {
  const volume = await Volume.create("shared");
  const how = { volumeMounts: { "/mnt/shared": volume } };
  await expect(Sandbox.create("minimal", { volumeMounts: { "/mnt": "nobody-made-it" } })).rejects.toThrow(
    "nobody-made-it",
  );
  const [one, other] = await Promise.all([Sandbox.create("minimal", how), Sandbox.create("minimal", how)]);
  expect((await one.getInfo()).volumeMounts).toEqual([{ name: "shared", path: "/mnt/shared" }]);
  await one.commands.run("mkdir d && echo one >d/f", { cwd: "/mnt/shared", user: "nobody" });
  expect((await other.commands.run("cat /mnt/shared/d/f; echo two >>/mnt/shared/d/f")).stdout).toBe("one\n");
  expect(await volume.readFile("/d/f")).toBe("one\ntwo\n");
  await volume.writeFile("/d/f", "three");
  expect(await one.files.read("/mnt/shared/d/f")).toBe("three");
  // Where it is, what it has open and its memory are as they were after a pause: the volume is no exception.
  const program = "cd /mnt/shared/d; exec 3>log; while :; do echo . >&3; sleep 0.05; done";
  await one.commands.run(program, { background: true, timeoutMs: 0 });
  const grows = async () => {
    const { size } = await volume.getInfo("/d/log").catch(() => ({ size: 0 }));
    while ((await volume.getInfo("/d/log").catch(() => ({ size: 0 }))).size <= size) await Bun.sleep(20);
  };
  await grows();
  await one.pause();
  await one.connect();
  await grows();
  await other.commands.run("pkill -9 -f 'wrenn/[e]nvd volumes'", { user: "root" });
  for (let text = ""; text !== "three"; )
    text = await other.commands.run("cat /mnt/shared/d/f").then(
      ({ stdout }) => stdout,
      () => "",
    );
  expect(await Volume.destroy(volume.volumeId)).toBe(true);
  await Promise.all([one.kill(), other.kill()]);
}, 240_000);

test("secrets are kept, named, changed and forgotten", async () => {
  const made = await Secret.create("js_key", "hunter2", { metadata: { for: "js" } });
  expect((await Secret.update("js_key", "hunter3")).version).toBe(made.version + 1);
  expect((await Secret.getInfo("js_key")).metadata).toEqual({ for: "js" });
  expect((await Secret.list().nextItems()).map(({ name }) => name)).toEqual(["js_key"]);
  expect(await Secret.exists("js_key")).toBe(true);
  expect(Secret.fill("js_key")).toContain("js_key");
  Secret.iamToken({ audience: "x" } as unknown as Parameters<typeof Secret.iamToken>[0]);
  expect([await Secret.destroy("js_key"), await Secret.destroy("js_key")]).toEqual([true, false]);
});

test("a template is built, told of, named by tags, and sandboxes start from it", async () => {
  const template = Template().fromTemplate("minimal").runCmd("echo built > /var/tmp/built");
  const built = await Template.build(template, "js-built", { cpuCount: 1, memoryMB: 512 });
  await using copy = disposable(await Sandbox.create("js-built"));
  expect(await copy.sandbox.files.read("/var/tmp/built")).toBe("built\n");
  const again = await Template.buildInBackground(template, "js-built", { cpuCount: 1, memoryMB: 512 });
  await until("the second build", async () => (await Template.getBuildStatus(again)).status === "ready");
  expect([await Template.exists("js-built"), await Template.aliasExists("nope")]).toEqual([true, false]);
  expect((await Template.assignTags("js-built", ["stable"])).tags).toEqual(["stable"]);
  expect((await Template.getTags(built.templateId)).map(({ tag }) => tag).sort()).toEqual(["default", "stable"]);
  await Template.removeTags("js-built", ["stable"]);
  expect(await Template.toJSON(template, false)).toContain("echo built");
  expect(Template.toDockerfile(Template().fromImage("debian:12").runCmd("true"))).toContain("FROM debian:12");
}, 240_000);

describe("by Node, as users run it", () => {
  test("a kill in the middle of a command is told as what it was", async () => {
    expect(await node(await Bun.file(`${repository}test/e2b/killed.mjs`).text())).toMatch(
      /TimeoutError: .*sandbox was killed or reached its end of life/,
    );
  });

  test("the README's program prints what it says", async () => {
    const [, program = ""] =
      /```js\n(\/\/ e2b\.mjs[\s\S]*?)```/.exec(await Bun.file(`${repository}README.md`).text()) ?? [];
    expect(await node(program)).toBe("42\nremember this\n");
  });
});

/** Runs a program beside the tests' packages, told nothing but the variables; gives what it prints. */
async function node(program: string): Promise<string> {
  const file = `${repository}test/e2b/.program-${crypto.randomUUID()}.mjs`;
  await Bun.write(file, program);
  try {
    const child = Bun.spawn(["node", file], { env: { ...process.env }, stdout: "pipe", stderr: "pipe" });
    const [printed, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    if ((await child.exited) !== 0) throw new Error(said);
    return printed;
  } finally {
    await rm(file);
  }
}

test("an early version of the SDK works the same", async () => {
  const early = await EarlySandbox.create("minimal", { timeoutMs: 60_000 });
  await early.files.write("/tmp/f", "early");
  expect((await early.commands.run("cat /tmp/f")).stdout).toBe("early");
  expect((await EarlySandbox.getInfo(early.sandboxId)).sandboxId).toBe(early.sandboxId);
  await early.betaPause();
  await early.connect();
  expect(await early.files.read("/tmp/f")).toBe("early");
  await early.kill();
  expect(await early.isRunning()).toBe(false);
});

test("the gateway's token is read where a template has one", async () => {
  await box.files.write("/etc/mcp-gateway/.token", "of the gateway", { user: "root" });
  expect(await box.getMcpToken()).toBe("of the gateway");
  expect(box.getMcpUrl()).toBe(`https://${box.getHost(50_005)}/mcp`);
});

test("every public method has worked, or docs/e2b.md says why not", async () => {
  const missing = methods.all.filter((name) => !methods.seen.has(name) && !(name in exceptions.js));
  expect(missing).toEqual([]);
  await checkTable("js", methods);
});
