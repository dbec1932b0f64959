import { WrennError } from "@wrenn/contract";

/** An image in a registry. `host` is `NAME[:PORT]`; `version` a tag or a digest. */
export type Reference = { readonly host: string; readonly repository: string; readonly version: string };

/** Everything that registries allow in a name (OCI distribution, "Pulling manifests"), and nothing more. */
const pattern =
  /^(?:((?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::\d+)?)\/)?([a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)(?::([\w][\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$/;

/** Reads a name as people write it: without a host it is Docker Hub's. Throws `invalid_request`. */
export function readReference(text: string): Reference {
  const [, first, rest, tag, digest] = pattern.exec(text) ?? [];
  if (rest === undefined)
    throw new WrennError("invalid_request", `"${text}" is no name of an image`, {
      remedy: "Write it as REGISTRY/NAME:TAG, such as python:3.12-slim or ghcr.io/org/app@sha256:….",
    });
  const isHost = first !== undefined && (/[.:]/.test(first) || first === "localhost");
  const name = isHost || first === undefined ? rest : `${first}/${rest}`;
  const version = digest ?? tag ?? "latest";
  if (isHost && first !== "docker.io") return { host: first, repository: name, version };
  return { host: "registry-1.docker.io", repository: name.includes("/") ? name : `library/${name}`, version };
}
