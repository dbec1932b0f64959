import type { SecretMount } from "./plan.ts";
import type { Workshop } from "./workshop.ts";

/** Secrets lie in a file system in the guest's memory, so that no disk layer ever has them. */
const folder = "/run/.wrenn-secrets";

/** Secrets where a step reads them. Disposing of it takes them away. */
export type Laid = AsyncDisposable & { readonly env: Readonly<Record<string, string>> };

/**
 * Lays the secrets of one step into the guest. Afterwards no name leads to them, but the guest's memory may hold them
 * still, in buffers of its kernel and its agent: who keeps the step's result keeps the disk alone.
 */
export async function laySecrets(
  shop: Workshop,
  mounts: readonly SecretMount[],
  given: Readonly<Record<string, string>>,
): Promise<Laid> {
  const wanted = mounts.filter(({ id }) => id in given);
  const env = Object.fromEntries(
    wanted.flatMap(({ id, env }) => (env ? [[env, Buffer.from(given[id]!, "base64").toString()]] : [])),
  );
  if (wanted.length === 0) return { env, [Symbol.asyncDispose]: async () => {} };
  await shop.must(["sh", "-c", `mkdir -p ${folder} && mount -t tmpfs -o mode=0711,size=16m tmpfs ${folder}`]);
  const files = wanted
    .flatMap((mount) => (mount.target ? [{ ...mount, target: mount.target }] : []))
    .map((mount, at) => ({ ...mount, file: `${folder}/${at}` }));
  const laid = {
    env,
    [Symbol.asyncDispose]: () =>
      takeAway(
        shop,
        files.map(({ target }) => target),
      ),
  };
  await using undo = new AsyncDisposableStack();
  undo.use(laid);
  for (const { id, file, target, owner, mode } of files) {
    await shop.write(file, Buffer.from(given[id]!, "base64"));
    await shop.must(["sh", "-c", lay, "sh", file, target, owner, mode]);
  }
  undo.move();
  return laid;
}

/** A file that stands at the target already is covered for the time; one that is made for it is removed again. */
const lay = `set -e
chown "$3" "$1" && chmod "$4" "$1"
mkdir -p "\${2%/*}"
[ -e "$2" ] || { : >"$2" && : >"$1.made"; }
mount --bind "$1" "$2"`;

const remove = `at=0
for target in "$@"; do
  umount "$target"
  [ ! -e ${folder}/$at.made ] || rm -f "$target"
  at=$((at + 1))
done
umount ${folder} && rmdir ${folder}`;

async function takeAway(shop: Workshop, targets: readonly string[]): Promise<void> {
  if (shop.signal.aborted) return; // nothing of this sandbox is kept
  await shop.must(["sh", "-c", remove, "sh", ...targets]);
}
