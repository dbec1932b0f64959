import { headers } from "@wrenn/contract";
import type { Caller } from "./caller.ts";
import type { Keys } from "./keys.ts";

/** The one door: every edge learns here who asks. */
export class Access {
  constructor(readonly keys: Keys) {}

  /** Who sent these headers. Throws `unauthorized`. */
  open(given: Headers, requestId: string): Promise<Caller> {
    return this.byKey(given.get(headers.apiKey), requestId);
  }

  /** Whose API key this is. Throws `unauthorized`. */
  async byKey(key: string | null | undefined, requestId: string): Promise<Caller> {
    const { id, team, name } = await this.keys.open(key);
    return { team, actor: { type: "api_key", id, name }, requestId };
  }
}
