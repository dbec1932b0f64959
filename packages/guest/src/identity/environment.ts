import { existsSync } from "node:fs";
import type { InitRequest } from "@wrenn/contract/core";
import { overwrite } from "./overwrite.ts";

/** Where programs of the guest find out where they are (Wrenn guest agent, section 1). */
const folder = "/run/wrenn";

const write = (name: string, value: string) => overwrite(`${folder}/.${name}`, value);

/** The variables every process gets because it runs in a sandbox, in both dialects. */
export function sandboxVariables({ sandboxId, templateId }: Pick<InitRequest, "sandboxId" | "templateId">) {
  return {
    WRENN_SANDBOX: "true",
    E2B_SANDBOX: "true",
    ...(sandboxId ? { WRENN_SANDBOX_ID: sandboxId, E2B_SANDBOX_ID: sandboxId } : {}),
    ...(templateId ? { WRENN_TEMPLATE_ID: templateId, E2B_TEMPLATE_ID: templateId } : {}),
  };
}

/** Tells the same to programs that were started before it was known, as files. */
export function writeSandboxFiles({ sandboxId, templateId }: Pick<InitRequest, "sandboxId" | "templateId">): void {
  if (sandboxId) write("WRENN_SANDBOX_ID", sandboxId);
  if (templateId) write("WRENN_TEMPLATE_ID", templateId);
}

/** Where the identity is kept while the machine runs, and whether this machine was given one. */
export const identityFile = `${folder}/identity.json`;
export const hasIdentity = (): boolean => existsSync(`${folder}/.WRENN_SANDBOX_ID`);

/** Marks the machine as a sandbox, once, when the agent starts. */
export const markSandbox = (): void => write("WRENN_SANDBOX", "true");
