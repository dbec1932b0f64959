import { afterAll, afterEach, beforeAll } from "bun:test";
import { headers, parseSandboxId, type rest, type State, WrennError } from "@wrenn/contract";
import { SQL } from "bun";
import { type ControlPlane, type Options, start } from "../../src/index.ts";
import { hashKey } from "../../src/store/keys.ts";
import { FakeHost } from "./fake-host.ts";
import { startGuest, type TestGuest } from "./guest.ts";
import { freshDatabase } from "./postgres.ts";

/** Key of the local team in every test. */
export const apiKey = `wrn_${"a".repeat(32)}`;

/** What scrapes its metrics. */
export const metricsToken = "metrics-token";

/** A control plane with its database, a host and a guest agent, all over real sockets. */
export class Plane implements AsyncDisposable {
  private constructor(
    readonly options: Options,
    readonly host: FakeHost,
    readonly guest: TestGuest,
    public control: ControlPlane,
  ) {}

  static async start(
    timings: Options["timings"] = {},
    access: Options["access"] = {},
    more: Partial<Options> = {},
  ): Promise<Plane> {
    const [databaseUrl, guest] = await Promise.all([freshDatabase(), startGuest()]);
    const host = new FakeHost(guest.address);
    const options: Options = {
      databaseUrl,
      listen: "127.0.0.1:0",
      fleet: { localAddress: host.address, localToken: host.token, privateDestinations: true },
      bootstrapApiKey: apiKey,
      metricsToken,
      logLevel: process.env.LOG_LEVEL ?? "silent",
      timings,
      access,
      ...more,
    };
    return new Plane(options, host, guest, await start(options));
  }

  get address(): string {
    return this.control.address;
  }

  /** A request with the local team's key; `body` is sent as JSON unless it is text. */
  fetch(method: string, path: string, body?: unknown, more: Record<string, string> = {}): Promise<Response> {
    return fetch(this.address + path, {
      method,
      headers: {
        [headers.apiKey]: apiKey,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...more,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  }

  /** The JSON of an answer whose status must be `status`. */
  async json<T = rest.Capsule>(status: number, method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.fetch(method, path, body);
    const text = await response.text();
    if (response.status !== status)
      throw new Error(`${method} ${path}: ${response.status} instead of ${status}: ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  /** Code and status of a refused request. */
  async refusal(
    method: string,
    path: string,
    body?: unknown,
    more?: Record<string, string>,
  ): Promise<{ status: number; code: string | undefined }> {
    const response = await this.fetch(method, path, body, more);
    return { status: response.status, code: WrennError.fromBody(await response.json().catch(() => null))?.code };
  }

  /** A new running sandbox. */
  create(body: rest.CreateCapsuleInput = {}): Promise<rest.Capsule> {
    return this.json(201, "POST", "/v1/capsules", body);
  }

  /** A key of a team that has nothing to do with the local one. */
  async otherKey(): Promise<string> {
    const key = `wrn_${"b".repeat(32)}`;
    await using sql = new SQL(this.options.databaseUrl, { max: 1 });
    await sql`insert into teams (id, name) values ('team-other', 'Other') on conflict do nothing`;
    await sql`insert into api_keys (id, team_id, name, key_hash, key_prefix)
      values ('key-other', 'team-other', 'test', ${hashKey(key)}, 'wrn_bbbbbb') on conflict do nothing`;
    return key;
  }

  /** Puts a row into a state that no call leads to. */
  async force(id: string, state: State, ageMs = 0): Promise<void> {
    await using sql = new SQL(this.options.databaseUrl, { max: 1 });
    await sql`update sandboxes set state = ${state}, updated_at = now() - ${ageMs} * interval '1 millisecond'
      where id = ${parseSandboxId(id)!}`;
  }

  /** What another replica writes while it hears the host; it does so for a minute yet. */
  async heardOf(): Promise<void> {
    await using sql = new SQL(this.options.databaseUrl, { max: 1 });
    await sql`update hosts set last_seen_at = now() + interval '1 minute'`;
  }

  /** Stops the control plane and starts another on the same database. */
  async restart(timings = this.options.timings): Promise<void> {
    await this.control.stop();
    this.control = await start({ ...this.options, timings });
  }

  /** Waits until a sandbox has this status, but not until the test's own time is over: that would not say what it had. */
  async until(id: string, status: string): Promise<rest.Capsule> {
    const end = Date.now() + 50_000;
    for (;;) {
      const capsule = await this.json(200, "GET", `/v1/capsules/${id}`);
      if (capsule.status === status) return capsule;
      if (Date.now() > end) throw new Error(`it did not become ${status}: ${JSON.stringify(capsule)}`);
      await Bun.sleep(10);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.control.stop();
    await this.host.down();
    await this.guest.stop();
  }
}

/** A control plane for the tests of one file, there from the first one on; after each its host is well and quick again. */
export function planeOfFile(): () => Plane {
  let plane: Plane;
  beforeAll(async () => {
    plane = await Plane.start();
  });
  afterEach(() => {
    plane.host.heal();
    plane.host.delayMs = 0;
  });
  afterAll(() => plane[Symbol.asyncDispose]());
  return () => plane;
}
