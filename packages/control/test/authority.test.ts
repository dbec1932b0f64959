import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { rest } from "@wrenn/contract";
import { compileFleet, fleetFromEnvironment } from "../src/config-fleet.ts";
import { Plane } from "./support/plane.ts";

let dir: string;
let cert: string;
let key: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-ca-"));
  // As operators make it: `openssl ecparam -genkey` writes SEC1, not PKCS#8.
  await run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", join(dir, "ca.key"));
  const subject = ["-subj", "/CN=Operator", "-addext", "keyUsage=critical,keyCertSign"];
  await run(
    "req",
    "-x509",
    "-new",
    "-key",
    join(dir, "ca.key"),
    "-days",
    "30",
    "-out",
    join(dir, "ca.pem"),
    ...subject,
  );
  cert = await readFile(join(dir, "ca.pem"), "utf8");
  key = await readFile(join(dir, "ca.key"), "utf8");
});
afterAll(() => rm(dir, { recursive: true }));

async function run(...args: string[]): Promise<void> {
  const child = Bun.spawn(["openssl", ...args], { stdout: "ignore", stderr: "pipe" });
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
}

const refusal = (env: Record<string, string>) => {
  try {
    compileFleet(fleetFromEnvironment(env));
    return undefined;
  } catch (thrown) {
    return (thrown as Error).message;
  }
};

describe("the operator's own authority", () => {
  test("names the hosts that register; what was kept of another one does not matter", async () => {
    expect(key).toContain("BEGIN EC PRIVATE KEY");
    const env = { WRENN_CA_CERT: cert.replaceAll("\n", "\\n"), WRENN_CA_KEY: key };
    const fleet = fleetFromEnvironment(env);
    await using plane = await Plane.start({}, {}, { fleet });
    const made = await plane.json<rest.RegistrableHost>(201, "POST", "/v1/hosts", {});
    const machine = { arch: "x64", cpu_cores: 4, memory_mb: 8_192, disk_gb: 10, address: "127.0.0.1:9" };
    const body = { ...machine, token: made.registration_token };
    const identity = await plane.json<rest.HostIdentity>(201, "POST", "/v1/hosts/register", body);
    expect(new X509Certificate(identity.ca_cert_pem).subject).toBe("CN=Operator");
    expect(new X509Certificate(identity.cert_pem).verify(new X509Certificate(cert).publicKey)).toBe(true);
  });

  test("is refused when half of it is missing, it is no PEM, or the two do not belong together", async () => {
    await run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", join(dir, "other.key"));
    const other = await readFile(join(dir, "other.key"), "utf8");
    expect(refusal({ WRENN_CA_CERT: cert })).toContain("Only one of");
    expect(refusal({ WRENN_CA_CERT: "x", WRENN_CA_KEY: key })).toContain("no PEM");
    expect(refusal({ WRENN_CA_CERT: cert, WRENN_CA_KEY: other })).toContain("not the key of");
    expect(refusal({})).toBeUndefined();
  });
});
