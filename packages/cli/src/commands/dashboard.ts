import { Command } from "commander";
import { Wrenn } from "wrenn";
import type { Json } from "../options.ts";
import { print, printJson } from "../output.ts";

/** A link that signs a browser in. */
export type SignInLink = { url: string; expires_at: string };

/** Asks the server for a link that signs a browser in once. */
export const signInLink = (client: Wrenn): Promise<SignInLink> => client.request("POST", "/v1/auth/links");

/** `wrenn dashboard`. */
export const dashboardCommand = (): Command =>
  new Command("dashboard")
    .description("print a link that signs a browser in to the dashboard; it opens once, within 15 minutes")
    .option("--json", "print {url, expires_at}")
    .addHelpText("after", "\nExample:\n  wrenn dashboard")
    .action(async ({ json }: Json) => {
      const link = await signInLink(new Wrenn());
      if (json) return printJson(link);
      print(link.url);
    });
