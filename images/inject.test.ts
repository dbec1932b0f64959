/** Injects the agent into roots of several kinds, and lets it run in them, in namespaces of its own. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { processes } from "@wrenn/contract";

setDefaultTimeout(60_000);

const guest = new URL("../builds/guest", import.meta.url).pathname;
const scratch = mkdtempSync(`${tmpdir()}/wrenn-inject-`);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Root of a user namespace does for what root must do, so an ordinary user runs these tests as well. */
const asRoot = process.getuid?.() === 0 ? [] : ["unshare", "-r"];
const own = [...asRoot, "unshare", "--mount", "--pid", "--fork", "--kill-child"];
const problem = !existsSync(`${guest}/inject`)
  ? "run `make images`"
  : Bun.spawnSync([...own, "true"]).exitCode !== 0
    ? "this machine allows no namespaces"
    : undefined;
const check = problem ? test.skip : test;
const titled = (title: string) => (problem ? `${title} — skipped: ${problem}` : title);

function root(name: string, files: Record<string, string> = {}): string {
  const folder = `${scratch}/${name}`;
  mkdirSync(folder);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(`${folder}${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
    writeFileSync(`${folder}${path}`, text);
  }
  return folder;
}

function inject(folder: string): string {
  const run = Bun.spawnSync([...asRoot, `${guest}/inject`, folder], { stderr: "pipe" });
  if (run.exitCode !== 0) throw new Error(run.stderr.toString());
  return folder;
}

/** Starts the agent with `folder` as its root and runs `line` by the shell that clients use. */
async function shellIn(folder: string, line: string): Promise<string> {
  const busybox = `${folder}/usr/local/lib/wrenn/busybox`;
  const start = `${busybox} mount -t proc proc ${folder}/proc && exec ${busybox} chroot ${folder} /usr/local/bin/envd --isnotfc --host 127.0.0.1 --port 0`;
  const agent = Bun.spawn([...own, "/bin/sh", "-c", start], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  try {
    const { value } = await agent.stdout.getReader().read();
    const { address } = JSON.parse(new TextDecoder().decode(value)) as { address: string };
    const client = createClient(processes.Process, createConnectTransport({ baseUrl: address }));
    let output = "";
    const request = { process: { cmd: "/bin/bash", args: ["-l", "-c", line] }, stdin: false };
    for await (const { event } of client.start(request))
      if (event?.event.case === "data") output += Buffer.from(event.event.value.output.value as Uint8Array);
    return output;
  } finally {
    agent.kill("SIGKILL");
    await agent.exited;
  }
}

describe("the agent injected into", () => {
  check(titled("an empty root brings a shell and its commands along"), async () => {
    const folder = inject(root("empty"));
    const line = "echo $HOME $BASH_VERSION; id -un; ls -d /etc /tmp; [ -k /tmp ] && echo sticky; printf 6 | wc -c";
    expect(await shellIn(folder, line)).toMatch(/^\/root 5\.\S+\nroot\n\/etc\n\/tmp\nsticky\n1\n$/);
  });

  check(titled("a root with another C library runs on its own one"), async () => {
    const broken = "this is no library\n";
    const names = ["/lib64/ld-linux-x86-64.so.2", "/lib/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"];
    const files = ["/lib/ld-musl-x86_64.so.1", "/etc/ld.so.cache", ...names].map((path) => [path, broken]);
    const folder = inject(root("foreign", Object.fromEntries(files)));
    expect(await shellIn(folder, "echo works")).toBe("works\n");
    for (const [path] of files) expect(readFileSync(folder + path, "utf8")).toBe(broken);
  });

  check(titled("a root with programs, accounts and a home keeps them"), async () => {
    const shell = `${guest}/root/usr/local/lib/wrenn/busybox`;
    const passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/app:/bin/sh\n";
    const folder = root("full", { "/etc/passwd": passwd, "/etc/hostname": "builder", "/app/notes": "kept" });
    mkdirSync(`${folder}/usr/bin`, { recursive: true });
    symlinkSync("usr/bin", `${folder}/bin`);
    writeFileSync(`${folder}/usr/bin/sh`, readFileSync(shell));
    writeFileSync(`${folder}/usr/bin/bash`, "the image's own\n");
    chmodSync(`${folder}/usr/bin/sh`, 0o755);
    inject(folder);
    expect(readFileSync(`${folder}/etc/passwd`, "utf8")).toBe(passwd);
    expect(readFileSync(`${folder}/app/notes`, "utf8")).toBe("kept");
    expect(readFileSync(`${folder}/etc/hostname`, "utf8")).toBe("wrenn\n");
    expect(readdirSync(`${folder}/bin`).sort()).toEqual(["bash", "sh"]);
    expect(readFileSync(`${folder}/bin/bash`, "utf8")).toBe("the image's own\n");
  });

  check(titled("a hostile root touches nothing outside it"), () => {
    const outside = root("outside", { "/etc/passwd": "mine" });
    const folder = root("hostile", { "/usr/x": "" });
    symlinkSync(`${outside}/etc`, `${folder}/etc`);
    symlinkSync("../../outside", `${folder}/usr/local`);
    symlinkSync(`../..${"/..".repeat(20)}${outside}`, `${folder}/bin`);
    inject(folder);
    expect(readdirSync(outside)).toEqual(["etc"]);
    expect(readdirSync(`${outside}/etc`)).toEqual(["passwd"]);
    expect(readFileSync(`${outside}/etc/passwd`, "utf8")).toBe("mine");
    expect(existsSync(`${folder}${outside}/etc/hostname`)).toBe(true);
    expect(existsSync(`${folder}/outside/lib/wrenn/envd`)).toBe(true);
  });

  check(titled("a root of endless links, a file, or this machine's own root is refused"), () => {
    const folder = root("endless");
    symlinkSync("etc", `${folder}/etc`);
    expect(() => inject(folder)).toThrow("too many symbolic links in /etc");
    expect(() => inject(`${folder}/none`)).toThrow("Usage:");
    expect(() => inject("/")).toThrow("ROOT is this machine's own");
  });

  check(titled("the same root twice: the second time changes nothing"), () => {
    const folder = inject(root("twice"));
    const listing = () =>
      Bun.spawnSync(["sh", "-c", `cd ${folder} && find . -printf '%p %y %m %s %t %l\\n' | sort`]).stdout.toString();
    const first = listing();
    inject(folder);
    expect(listing()).toBe(first);
  });
});
