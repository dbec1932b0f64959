import { readFileSync } from "node:fs";

/** Numbers of capabilities (capabilities(7), linux/capability.h) that the agent needs beside a plain user's rights. */
const numbers = {
  chown: 0,
  dac_override: 1,
  fowner: 3,
  kill: 5,
  setgid: 6,
  setuid: 7,
  net_admin: 12,
  sys_chroot: 18,
  sys_ptrace: 19,
  sys_admin: 21,
  sys_resource: 24,
  mknod: 27,
} as const;

type Capability = keyof typeof numbers;

function effective(): bigint {
  const line = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return BigInt(`0x${line}`);
}

const has = (wanted: readonly Capability[]): boolean => {
  const held = effective();
  return wanted.every((name) => (held >> BigInt(numbers[name])) & 1n);
};

const isRoot = process.getuid?.() === 0;

/** Whether this agent may give files away and start processes as other users: it is root, or a service with those capabilities. */
export const mayActForOthers = isRoot || has(["chown", "fowner", "setuid", "setgid", "kill"]);

/** Whether it may make networks, devices and jails. */
export const mayChangeHost = (): boolean =>
  mayActForOthers && has(["dac_override", "net_admin", "sys_chroot", "sys_ptrace", "sys_admin", "mknod"]);

/**
 * What goes before a command that shall run as another user, or change to one. A process that is not root keeps its
 * capabilities when it changes its user, and so would a VMM; one that was root loses them. So the way leads over root.
 */
export const overRoot = (): string[] =>
  isRoot || !mayActForOthers ? [] : ["setpriv", "--reuid=0", "--regid=0", "--clear-groups", "--"];
