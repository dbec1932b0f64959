import { createHash } from "node:crypto";
import { open, rename, rm, stat } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { WrennError } from "@wrenn/contract";
import type { Reach } from "./reach.ts";
import type { Reference } from "./reference.ts";

/** A piece of an image (OCI image, "Content descriptors"). */
export type Descriptor = {
  mediaType: string;
  digest: string;
  size: number;
  platform?: { os?: string; architecture?: string; variant?: string };
};
/** A document of a registry, by its digest. */
export type Document = { digest: string; mediaType: string; bytes: Buffer };

const maxRedirects = 5;
/** Manifests have at most 4 MiB by the specification. */
const maxDocumentBytes = 4 * 2 ** 20;
/** A download that breaks off goes on where it ended; this often without a byte in between, it is given up. */
const maxTries = 5;
const pauseMs = 500;

const documents = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

/** A repository of one registry, as the OCI distribution specification has it. */
export class Repository {
  #authorization: string | undefined;

  constructor(
    readonly reach: Reach,
    readonly reference: Reference,
    readonly credentials: { username: string; password: string } | undefined,
  ) {}

  /** The document that a tag or digest names. What a digest names is that, or it is refused. */
  async document(version: string): Promise<Document> {
    const answer = await this.#get(this.#url(`manifests/${version}`), { accept: documents });
    const parts: Buffer[] = [];
    let size = 0;
    for await (const part of answer as AsyncIterable<Buffer>) {
      parts.push(part);
      size += part.length;
      if (size > maxDocumentBytes) throw new WrennError("too_large", "the image's manifest is larger than 4 MiB");
    }
    const bytes = Buffer.concat(parts);
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    if (version.startsWith("sha256:") && version !== digest) throw damaged(version);
    return { digest, bytes, mediaType: (answer.headers["content-type"] ?? "").split(";")[0]!.trim() };
  }

  /** Brings a blob to `path`, whole and as its digest says, or throws. What arrived stays beside it for the next try. */
  async blob({ digest, size }: Descriptor, path: string, progress: (bytes: number) => void): Promise<void> {
    const partial = `${path}.partial`;
    for (let tries = 1; ; ) {
      const had = await sizeOf(partial);
      const broken = await this.#append({ digest, size }, partial, progress).catch((thrown) => thrown as Error);
      const has = await sizeOf(partial);
      if (has > size) throw await discarded(partial, damaged(digest));
      if (has === size && !broken) break;
      if (broken instanceof WrennError && broken.code !== "agent_error") throw broken;
      tries = has > had ? 1 : tries + 1;
      if (tries > maxTries) throw unfinished(this.reference.host, broken);
      await Bun.sleep(pauseMs * tries);
    }
    if ((await digestOfFile(partial)) !== digest) throw await discarded(partial, damaged(digest));
    await rename(partial, path);
  }

  /** Appends what is missing. A server that cannot go on in the middle sends all of it again. */
  async #append(
    { digest, size }: Pick<Descriptor, "digest" | "size">,
    path: string,
    progress: (bytes: number) => void,
  ) {
    const had = await sizeOf(path);
    if (had === size) return;
    const answer = await this.#get(this.#url(`blobs/${digest}`), had > 0 ? { range: `bytes=${had}-` } : {});
    const from = answer.statusCode === 206 ? had : 0;
    await using file = await open(path, from > 0 ? "a" : "w", 0o600);
    let at = from;
    for await (const part of answer as AsyncIterable<Buffer>) {
      at += part.length;
      if (at > size) throw await discarded(path, damaged(digest));
      await file.write(part);
      progress(at);
    }
  }

  #url(path: string): URL {
    const { host, repository } = this.reference;
    return new URL(
      `${this.reach.isAllowed(host) && isLocal.test(host) ? "http" : "https"}://${host}/v2/${repository}/${path}`,
    );
  }

  /** Asks, as whoever the registry wants to see; follows redirects, to which no credentials go. */
  async #get(url: URL, headers: Record<string, string>, isRetry = false): Promise<IncomingMessage> {
    const own = this.#authorization ? { authorization: this.#authorization } : {};
    let at = url;
    let answer = await this.reach.get(at, { ...headers, ...own });
    for (let hops = 0; answer.headers.location && isRedirect(answer); hops++) {
      if (hops === maxRedirects) throw new WrennError("invalid_request", `${url.host} redirects without end`);
      answer.destroy();
      at = new URL(answer.headers.location, at);
      answer = await this.reach.get(at, at.host === url.host ? { ...headers, ...own } : headers);
    }
    if (answer.statusCode === 200 || answer.statusCode === 206) return answer;
    answer.destroy();
    if (answer.statusCode === 401 && !isRetry) {
      this.#authorization = await this.#authorize(answer.headers["www-authenticate"] ?? "");
      return await this.#get(url, headers, true);
    }
    throw refusal(this.reference, answer.statusCode ?? 0);
  }

  /** What the registry's challenge asks for (Docker registry token specification; RFC 7617). */
  async #authorize(challenge: string): Promise<string> {
    const basic = this.credentials && `Basic ${btoa(`${this.credentials.username}:${this.credentials.password}`)}`;
    const of = (name: string) => new RegExp(`${name}="([^"]*)"`, "i").exec(challenge)?.[1];
    const realm = of("realm");
    if (!/^bearer /i.test(challenge) || !realm || !URL.canParse(realm)) {
      if (basic) return basic;
      throw refusal(this.reference, 401);
    }
    const url = new URL(realm);
    url.searchParams.set("scope", of("scope") ?? `repository:${this.reference.repository}:pull`);
    const service = of("service");
    if (service) url.searchParams.set("service", service);
    const answer = await this.reach.get(url, basic ? { authorization: basic } : {});
    let text = "";
    for await (const part of answer as AsyncIterable<Buffer>) if (text.length < maxDocumentBytes) text += part;
    if (answer.statusCode !== 200) throw refusal(this.reference, 401);
    const { token, access_token } = JSON.parse(text) as { token?: string; access_token?: string };
    return `Bearer ${token ?? access_token}`;
  }
}

/** Registries on this machine speak plain HTTP. */
const isLocal = /^(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$/;

const isRedirect = ({ statusCode = 0 }: IncomingMessage): boolean => statusCode >= 300 && statusCode < 400;

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );

/** The digest of a file's content. */
export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of Bun.file(path).stream()) hash.update(part);
  return `sha256:${hash.digest("hex")}`;
}

async function discarded<T>(path: string, error: T): Promise<T> {
  await rm(path, { force: true });
  return error;
}

const damaged = (digest: string) =>
  new WrennError("invalid_request", `what the registry sent is not ${digest.slice(0, 19)}…`, {
    remedy: "Try again; if it repeats, the image is damaged in the registry.",
  });

const unfinished = (host: string, cause: unknown) =>
  new WrennError("agent_error", `${host} breaks off again and again`, {
    remedy: "Try again: what arrived is kept.",
    cause,
  });

function refusal({ host, repository, version }: Reference, status: number): WrennError {
  const name = `${host}/${repository}:${version}`;
  if (status === 404)
    return new WrennError("invalid_request", `there is no image ${name}`, { remedy: "Check the name and the tag." });
  if (status === 401 || status === 403)
    return new WrennError("invalid_request", `the registry does not let ${name} be read`, {
      remedy: "Check the name; give credentials if it is private.",
    });
  return new WrennError("agent_error", `the registry ${host} answers with status ${status}`, {
    remedy: "Try again later.",
  });
}
