/** Hashes made at once: each takes 19 MiB and a processor for some 40 ms, and nobody who signs in may starve the rest. */
const atOnce = 2;

/** Argon2id as the OWASP Password Storage Cheat Sheet asks for: 19 MiB, two passes. */
const cost = { algorithm: "argon2id", memoryCost: 19_456, timeCost: 2 } as const;

const waiting: (() => void)[] = [];
let running = 0;

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= atOnce) await new Promise<void>((resume) => waiting.push(resume));
  else running++;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running--;
  }
}

/** The hash that is stored instead of a password. */
export const hashPassword = (password: string): Promise<string> => inTurn(() => Bun.password.hash(password, cost));

let nobodys: Promise<string> | undefined;

/** Whether this is the password of `hash`. Without a hash it takes as long, so that nobody learns who has an account. */
export async function verifyPassword(password: string, hash: string | null | undefined): Promise<boolean> {
  nobodys ??= hashPassword(crypto.randomUUID());
  const against = hash ?? (await nobodys);
  const isRight = await inTurn(() => Bun.password.verify(password, against));
  return isRight && hash !== null && hash !== undefined;
}
