import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { arch } from "node:os";
import { headers, rest, WrennError } from "@wrenn/contract";

/** What a registered host keeps in `$WRENN_DIR/host-token`, which only its user may read. */
export type Kept = {
  /** The control plane. */
  url: string;
  id: string;
  /** `HOST:PORT` at which the control plane reaches this agent; empty for one that dials it. */
  address: string;
  /** Opens the host's own routes of the control plane. */
  token: string;
  refreshToken: string;
  /** What the control plane shows to this agent. */
  agentToken: string;
  cert: string;
  key: string;
  ca: string;
};

/** What a machine says about itself when it registers. */
export type Machine = { cpuCores: number; memoryMib: number; diskMib: number };

/** The control plane answers out of its database; a proxy between may take a little longer. */
const patienceMs = 15_000;

const pathIn = (dir: string) => `${dir}/host-token`;

/** The identity that a former registration left. Throws `invalid_request` for a file that cannot be read. */
export async function readIdentity(dir: string): Promise<Kept | undefined> {
  const text = await readFile(pathIn(dir), "utf8").catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === "ENOENT") return undefined;
    throw thrown;
  });
  if (text === undefined) return undefined;
  try {
    const kept = JSON.parse(text) as Kept;
    if (kept.id && kept.refreshToken && kept.cert) return kept;
  } catch {
    // Said below.
  }
  throw new WrennError("invalid_request", `${pathIn(dir)} is damaged`, {
    remedy: "Remove it and register again with --register and a new token.",
  });
}

/** Writes an identity down so that a reader sees the old one or the new. */
export async function keepIdentity(dir: string, kept: Kept): Promise<void> {
  await mkdir(dir, { recursive: true });
  const partial = `${pathIn(dir)}.part`;
  await writeFile(partial, `${JSON.stringify(kept, undefined, 2)}\n`, { mode: 0o600 });
  await rename(partial, pathIn(dir));
}

/** Joins a fleet with a registration token; the identity is kept before this resolves. Throws what the control plane answers. */
export async function register(
  dir: string,
  wish: { url: string; token: string; address: string; machine: Machine },
): Promise<Kept> {
  const { url, address, machine } = wish;
  const given = await ask(url, "/v1/hosts/register", {
    token: wish.token,
    ...(address === "" ? { dials: true } : { address }),
    arch: arch(),
    cpu_cores: machine.cpuCores,
    memory_mb: machine.memoryMib,
    disk_gb: Math.floor(machine.diskMib / 1024),
  });
  const kept = keptOf(url, address, given);
  await keepIdentity(dir, kept);
  return kept;
}

/** The next identity, kept before this resolves. Throws what the control plane answers. */
export async function refresh(dir: string, old: Kept): Promise<Kept> {
  const given = await ask(old.url, "/v1/hosts/auth/refresh", { refresh_token: old.refreshToken });
  const kept = keptOf(old.url, old.address, given);
  await keepIdentity(dir, kept);
  return kept;
}

/** Tells the control plane that this host lives. Throws `unauthorized`, `not_found` when it was deleted, `unavailable`. */
export async function heartbeat({ url, id, token }: Kept): Promise<void> {
  await send(url, `/v1/hosts/${id}/heartbeat`, { headers: { [headers.registeredHost]: token } });
}

const keptOf = (url: string, address: string, given: rest.HostIdentity): Kept => ({
  ...{ url, address, id: given.host.id, token: given.token, refreshToken: given.refresh_token },
  ...{ agentToken: given.agent_token, cert: given.cert_pem, key: given.key_pem, ca: given.ca_cert_pem },
});

async function ask(url: string, path: string, body: object): Promise<rest.HostIdentity> {
  const init = { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const answer = rest.HostIdentity.safeParse(await (await send(url, path, init)).json());
  if (answer.success) return answer.data;
  throw new WrennError("agent_error", `${url} answered something else than an identity`, { cause: answer.error });
}

async function send(url: string, path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url + path, { ...init, method: "POST", signal: AbortSignal.timeout(patienceMs) });
  } catch (cause) {
    throw new WrennError("unavailable", `the control plane at ${url} cannot be reached`, {
      remedy: "Check WRENN_CP_URL, and that wrenn-cp runs there.",
      cause,
    });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw WrennError.fromBody(body) ?? new WrennError("unavailable", `${url} answered with status ${response.status}`);
}
