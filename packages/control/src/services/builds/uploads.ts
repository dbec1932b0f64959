import { createHmac, timingSafeEqual } from "node:crypto";
import { WrennError } from "@wrenn/contract";

/** An upload begins within this time of being asked for. */
const validMs = 60 * 60 * 1000;

/** What an upload is for. */
export type Upload = { team: string; hash: string };

/** Links that take one archive without an API key. */
export class Uploads {
  readonly #secret: Buffer;

  constructor(secret: Buffer) {
    this.#secret = createHmac("sha256", secret).update("build files").digest();
  }

  /** What stands in the link. */
  token({ team, hash }: Upload): string {
    const text = Buffer.from(JSON.stringify([team, hash, Date.now() + validMs])).toString("base64url");
    return `${text}.${this.#sign(text)}`;
  }

  /** What a link is for. Throws `unauthorized` for one that is not ours, or too old. */
  open(token: string): Upload {
    const [text = "", signature = ""] = token.split(".");
    const [given, wanted] = [Buffer.from(signature), Buffer.from(this.#sign(text))];
    if (given.length === wanted.length && timingSafeEqual(given, wanted)) {
      const [team, hash, until] = JSON.parse(Buffer.from(text, "base64url").toString()) as [string, string, number];
      if (until > Date.now()) return { team, hash };
    }
    throw new WrennError("unauthorized", "The link is not valid any more.", { remedy: "Ask for a new one." });
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#secret).update(text).digest("base64url");
  }
}
