import { randomId, WrennError } from "@wrenn/contract";
import { FolderStore } from "./folder.ts";
import type { ObjectStore } from "./objects.ts";
import { S3Store } from "./s3.ts";

/** Names a store to those who reach it by different ways, such as two mounts of one folder. */
const nameKey = "wrenn-store-id";

/** A store with the name that tells whether another host has the same one. */
export type Store = { readonly objects: ObjectStore; id(): Promise<string> };

/** Opens what `WRENN_STORE` names: a folder, or `s3://BUCKET/PREFIX`. Throws `invalid_request`. */
export function openStore(wish: string, env: Readonly<Record<string, string | undefined>>): Store {
  const objects = objectsOf(wish, env);
  let known: Promise<string> | undefined;
  return {
    objects,
    id: () => {
      known ??= identify(objects).catch((thrown) => {
        known = undefined;
        throw thrown;
      });
      return known;
    },
  };
}

function objectsOf(wish: string, env: Readonly<Record<string, string | undefined>>): ObjectStore {
  if (wish.startsWith("/")) return new FolderStore(wish.replace(/\/+$/, ""));
  if (wish.startsWith("file:///")) return new FolderStore(wish.slice("file://".length).replace(/\/+$/, ""));
  const [, bucket, prefix = ""] = /^s3:\/\/([a-z0-9.-]{3,63})(?:\/(.*?))?\/*$/.exec(wish) ?? [];
  if (bucket === undefined)
    throw new WrennError("invalid_request", `WRENN_STORE is "${wish}"`, {
      remedy: "Set it to a folder, such as /srv/wrenn-store, or to s3://BUCKET/PREFIX.",
    });
  const given = (name: string) => env[`S3_${name}`] || env[`AWS_${name}`] || undefined;
  return new S3Store({
    ...{ bucket, prefix: prefix && `${prefix}/` },
    endpoint: given("ENDPOINT") ?? env.AWS_ENDPOINT_URL,
    region: given("REGION"),
    accessKeyId: given("ACCESS_KEY_ID"),
    secretAccessKey: given("SECRET_ACCESS_KEY"),
    sessionToken: given("SESSION_TOKEN"),
  });
}

/** The store's own name; whoever comes first gives it one. Of two that come at once the later counts, for both. */
async function identify(store: ObjectStore): Promise<string> {
  const read = async () => {
    const bytes = await store.get(nameKey);
    return bytes && new TextDecoder().decode(bytes);
  };
  const found = await read();
  if (found) return found;
  await store.put(nameKey, new TextEncoder().encode(randomId()));
  await Bun.sleep(settleMs);
  return (await read())!;
}

/** Longer than two hosts that come at once are apart between looking and writing. */
const settleMs = 500;
