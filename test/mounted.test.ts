import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { decodeVolumeMessage, encodeVolumeMessage, type VolumeRequest } from "@wrenn/contract";
import { type HostEnd, Line } from "../packages/guest/src/volumes/line.ts";
import { Mount } from "../packages/guest/src/volumes/mount.ts";
import { Share } from "../packages/host/src/volumes/share.ts";
import { Tree } from "../packages/host/src/volumes/tree.ts";

/** Guest's and host's ends of a mounted volume on this machine's own kernel, which asks what a guest's asks. */
const reason = whyNot();
const real = reason ? test.skip : test;
const named = (title: string) => (reason ? `${title} — skipped: ${reason}` : title);

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return "only root may mount";
  try {
    closeSync(openSync("/dev/fuse", constants.O_RDWR));
    return undefined;
  } catch {
    return "this machine has no /dev/fuse";
  }
}

let dir: string;
let line: Line;
let mount: Mount | undefined;
/** Calls as they reach the host. */
let calls: string[];
beforeEach(async () => {
  dir = await mkdtemp(`${tmpdir()}/wrenn-mounted-`);
  await chmod(dir, 0o755);
  await mkdir(`${dir}/files`);
  await chmod(`${dir}/files`, 0o777);
  calls = [];
  line = new Line();
});
afterEach(async () => {
  mount?.[Symbol.dispose]();
  mount = undefined;
  await rm(dir, { recursive: true, force: true });
});

/** A host that answers; `lose` says of which calls the answer never arrives. */
function host(lose: (request: VolumeRequest) => boolean = () => false): HostEnd {
  const share = new Share(new Tree(`${dir}/files`), () => true);
  return {
    async send(message) {
      const { head, body } = decodeVolumeMessage<VolumeRequest>(message);
      calls.push(`${head.op}${head.again ? " again" : ""}`);
      const { body: bytes, ...rest } = await share.answer(head, body);
      if (!lose(head)) line.answered(encodeVolumeMessage({ ...rest, id: head.id }, bytes));
    },
  };
}

function mounted(owned = true): void {
  mount = new Mount(`${dir}/mnt`, line, owned);
}

/** What a program prints, from another process: this one answers for the mount. */
async function sh(script: string): Promise<string> {
  // Its folder is the mount only once it runs: this process waits for a child to begin, and answers for the mount.
  const child = Bun.spawn(["bash", "-euc", `cd ${dir}/mnt; ${script}`], { stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(err);
  return out.trim();
}

real(
  named("programs find an ordinary folder: files, links, modes, owners, times, large files, shared memory"),
  async () => {
    line.open(host());
    mounted();
    expect(await sh("echo hi >a; mkdir -p d/e; mv a d/e/b; ln -s e/b d/l; cat d/l; ls -A d")).toBe("hi\ne\nl");
    expect(await sh("ln d/l/../e/b c 2>/dev/null || ln d/e/b c; stat -c '%h %a' c")).toBe("2 644");
    expect(await sh("chmod 640 c; chown 7:8 c; touch -d @9 c; truncate -s 5 c; stat -c '%a %u %g %s' c")).toBe(
      "640 7 8 5",
    );
    const sums = await sh(
      "head -c 3000000 /dev/urandom >big; sync big; sha256sum <big; cp big again; sha256sum <again",
    );
    expect(new Set(sums.split("\n")).size).toBe(1);
    expect(readFileSync(`${dir}/files/big`)).toHaveLength(3_000_000);
    expect(await sh("for i in $(seq 400); do : >f$i; done; rm f*; ls | tr '\\n' ' '")).toBe("again big c d");
    const map = "import mmap;f=open('m','w+b');f.truncate(9);m=mmap.mmap(f.fileno(),9);m[:]=b'in memory';m.flush()";
    expect(await sh(`python3 -c "${map}"; cat m`)).toBe("in memory");
    expect(await sh("mkfifo p 2>&1 || true; rmdir d 2>&1 || true")).toContain("not empty");
    expect(await sh("grep -o 'nosuid,nodev' /proc/self/mounts | head -1")).toBe("nosuid,nodev");
  },
  60_000,
);

real(
  named("what another writes is seen at the next opening, and what it removes is gone"),
  async () => {
    line.open(host());
    mounted();
    expect(await sh("echo one >f; cat f")).toBe("one");
    await Bun.write(`${dir}/files/f`, "longer than before");
    expect(await sh("cat f")).toBe("longer than before");
    await rm(`${dir}/files/f`);
    expect(await sh("ls; test ! -e f && echo gone")).toBe("gone");
  },
  60_000,
);

real(
  named("a file that is removed while it is open goes on until it is closed, and then is nowhere"),
  async () => {
    line.open(host());
    mounted();
    expect(await sh("exec 3<>f; echo kept >&3; rm f; ls -A; cat /proc/self/fd/3; exec 3>&-; ls -A")).toBe("kept");
    while ((await readdir(`${dir}/files`)).length > 0) await Bun.sleep(1); // a release waits for nobody
  },
  60_000,
);

real(
  named("while the host is away programs wait; the next connection has each call done once"),
  async () => {
    line.open(host(({ op }) => op === "mkdir" || op === "write"));
    mounted();
    const script = sh("mkdir d; echo text >d/f; cat d/f");
    while (!calls.includes("mkdir")) await Bun.sleep(1);
    line.open(host(({ op }) => op === "write"));
    while (!calls.includes("write")) await Bun.sleep(1);
    line.open(host());
    expect(await script).toBe("text");
    expect(calls.filter((call) => call.endsWith(" again"))).toEqual(["mkdir again", "write again"]);
  },
  60_000,
);

real(
  named("a program that is killed while the host is away ends"),
  async () => {
    const end = host();
    line.open(end);
    mounted();
    line.closed(end);
    const child = Bun.spawn(["cat", `${dir}/mnt/f`], { stdout: "ignore", stderr: "ignore" });
    await Bun.sleep(50);
    child.kill("SIGKILL");
    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
  },
  60_000,
);

real(
  named("where the host cannot tell owners, files belong to whoever looks"),
  async () => {
    line.open(host());
    mounted(false);
    expect(
      await sh("echo x >f; setpriv --reuid 4242 --regid 4242 --clear-groups sh -c 'echo y >f; stat -c %u f'"),
    ).toBe("4242");
  },
  60_000,
);
