import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import S3rver from "s3rver";
import { S3Store } from "../../src/store/s3.ts";

/** What becomes of a request on its way to the bucket; `undefined` lets it pass. */
export type Fault = (request: Request) => Response | Promise<Response> | undefined;

/** A real S3 server with one bucket, and a line to it that a test can disturb. */
export class Bucket implements AsyncDisposable {
  fault: Fault = () => undefined;
  /** Requests that came through, as `METHOD path`. */
  readonly seen: string[] = [];
  readonly #line: Bun.Server<undefined>;

  private constructor(
    readonly server: S3rver,
    readonly port: number,
    readonly dir: string,
  ) {
    this.#line = Bun.serve({
      ...{ port: 0, hostname: "127.0.0.1", idleTimeout: 0, maxRequestBodySize: Number.MAX_SAFE_INTEGER },
      fetch: (request) => this.#pass(request),
    });
  }

  static async start(): Promise<Bucket> {
    const dir = await mkdtemp(`${tmpdir()}/wrenn-s3-`);
    const options = { port: 0, address: "127.0.0.1", silent: true, directory: dir };
    const server = new S3rver({ ...options, configureBuckets: [{ name: "wrenn", configs: [] }] });
    const { port } = await server.run();
    return new Bucket(server, port, dir);
  }

  /** What `WRENN_STORE` needs to find it. */
  get env(): Record<string, string> {
    return {
      S3_ENDPOINT: `http://127.0.0.1:${this.#line.port}`,
      S3_REGION: "us-east-1",
      S3_ACCESS_KEY_ID: "S3RVER",
      S3_SECRET_ACCESS_KEY: "S3RVER",
    };
  }

  /** A store in it that does not wait long. */
  store(timings: { tries?: number; firstWaitMs?: number; timeoutMs?: number } = {}): S3Store {
    return new S3Store({
      ...{ bucket: "wrenn", prefix: "some/where/", endpoint: this.env.S3_ENDPOINT, region: "us-east-1" },
      ...{ accessKeyId: "S3RVER", secretAccessKey: "S3RVER" },
      timings: { tries: 4, firstWaitMs: 1, timeoutMs: 20_000, ...timings },
    });
  }

  async #pass(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    this.seen.push(`${request.method} ${pathname}`);
    const faulty = this.fault(request);
    if (faulty) return faulty;
    const body = request.method === "PUT" ? await request.bytes() : undefined;
    return fetch(`http://127.0.0.1:${this.port}${pathname}${search}`, {
      ...{ method: request.method, headers: request.headers, redirect: "manual" }, // signed for our own address
      ...(body && { body }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#line.stop(true);
    await this.server.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}
