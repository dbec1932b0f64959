import { Wrenn, WrennError } from "wrenn";

/** Where the key of a browser that signed in with one is kept. */
const keyName = "wrenn.key";

/** Who looks at the dashboard, and the client that speaks for them. */
class Session {
  /** `unknown` until the first answer of the server. */
  state = $state<"unknown" | "out" | "in">("unknown");
  #key: string | undefined;
  client: Wrenn = new Wrenn({ baseUrl: location.origin, authorize: () => this.#headers() });

  /** What the first frame of a WebSocket says, where the browser's cookie does not. */
  get socketToken(): string | undefined {
    return this.#key;
  }

  /** Finds out whether this browser is signed in. Throws when the server cannot be reached. */
  async restore(): Promise<void> {
    this.#key = localStorage.getItem(keyName) ?? undefined;
    if (!this.#key) {
      this.state = "out";
      return;
    }
    try {
      await this.client.list({ limit: 1 });
      this.state = "in";
    } catch (thrown) {
      if (!(thrown instanceof WrennError) || thrown.code !== "unauthorized") throw thrown;
      this.#key = undefined;
      this.state = "out";
    }
  }

  /** Signs in with an API key; throws `unauthorized` for one the server does not know. */
  async useKey(key: string): Promise<void> {
    const before = this.#key;
    this.#key = key;
    try {
      await this.client.list({ limit: 1 });
    } catch (thrown) {
      this.#key = before;
      throw thrown;
    }
    localStorage.setItem(keyName, key);
    this.state = "in";
  }

  /** Forgets who is here; every page of this browser goes to the sign-in. */
  leave(): void {
    localStorage.removeItem(keyName);
    this.#key = undefined;
    this.state = "out";
  }

  #headers(): Record<string, string> {
    return this.#key ? { "X-API-Key": this.#key } : {};
  }
}

export const session = new Session();
