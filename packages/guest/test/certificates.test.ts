import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { trust } from "../src/identity/certificates.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "wrenn-trust-"));
});
afterEach(() => rmSync(root, { recursive: true }));

const certificate = (body: string) => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----`;
const bundle = () => readFileSync(join(root, "etc/ssl/certs/ca-certificates.crt"), "utf8");
const bodies = () => [...bundle().matchAll(/BEGIN CERTIFICATE-----\n(.*)\n/g)].map(([, body]) => body);

test("the sandbox's certificate is trusted beside the system's, and the next sandbox's in its place", () => {
  mkdirSync(join(root, "etc/ssl/certs"), { recursive: true });
  writeFileSync(join(root, "etc/ssl/certs/ca-certificates.crt"), certificate("system"));
  trust(certificate("first"), root);
  expect(bodies()).toEqual(["system", "first"]);
  trust(`${certificate("second")}\n`, root);
  expect(bodies()).toEqual(["system", "second"]);
  trust(certificate("second"), root);
  expect(bodies()).toEqual(["system", "second"]);
  expect(readFileSync(join(root, "usr/local/share/ca-certificates/wrenn-sandbox.crt"), "utf8")).toBe(
    `${certificate("second")}\n`,
  );
});

test("an image without any gets a bundle of that one", () => {
  trust(certificate("only"), root);
  expect(bodies()).toEqual(["only"]);
});
