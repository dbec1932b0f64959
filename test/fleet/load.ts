import type { rest } from "@wrenn/contract";
import type { TestFleet } from "./fleet.ts";

/** How long a client goes on trying: longer than anything that is killed needs to be back. */
const patienceMs = 90_000;

/** What a run of {@link load} saw. */
export type Seen = {
  /** Sandboxes that were asked for, by idempotency key, and got. */
  made: Map<string, string>;
  /** Those that were deleted. */
  deleted: Set<string>;
  /** Tries beyond the first. */
  retries: number;
  /** Requests that never came to an answer that a client wants. */
  failed: string[];
  requests: number;
};

/**
 * Clients that create, read, pause, resume and delete sandboxes until `until` resolves. Every request can be repeated:
 * creates carry an idempotency key, and a repeated change that finds itself done has succeeded.
 */
export async function load(fleet: TestFleet, clients: number, until: Promise<unknown>): Promise<Seen> {
  const seen: Seen = { made: new Map(), deleted: new Set(), retries: 0, failed: [], requests: 0 };
  const run = crypto.randomUUID(); // a key stands for its sandbox for a day
  let isOver = false;
  void until.then(() => {
    isOver = true;
  });
  const client = async (number: number): Promise<void> => {
    for (let turn = 0; !isOver; turn++) await life(fleet, seen, `${run}-${number}-${turn}`, { number, turn });
  };
  await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  return seen;
}

type Which = { number: number; turn: number };

async function life(fleet: TestFleet, seen: Seen, key: string, { number, turn }: Which): Promise<void> {
  const ask = asker(fleet, seen, number);
  const made = await ask("POST", "/v1/capsules", {}, { "idempotency-key": key });
  if (!made) return;
  const { id } = (await made.json()) as rest.Capsule;
  seen.made.set(key, id);
  await ask("GET", `/v1/capsules/${id}`);
  if (number % 2 === 0 && turn % 8 === 0) return; // stays, to be found again at the end
  await ask("DELETE", `/v1/capsules/${id}`);
  seen.deleted.add(id);
}

/** Repeats a request, at another control plane each time, until it is answered with success. */
function asker(fleet: TestFleet, seen: Seen, number: number) {
  let plane = number;
  return async (method: string, path: string, body?: unknown, more?: Record<string, string>) => {
    seen.requests++;
    const end = Date.now() + patienceMs;
    for (let tries = 0; ; tries++) {
      const response = await fleet.fetch(plane++, method, path, body, more).catch((thrown: Error) => thrown);
      if (response instanceof Response && (response.ok || response.status === 404)) return response;
      const why = response instanceof Response ? `${response.status} ${await response.text()}` : response.message;
      if (Date.now() > end) {
        seen.failed.push(`${method} ${path}: ${why}`);
        return undefined;
      }
      seen.retries++;
      await Bun.sleep(Math.min(1_000, 50 * 2 ** tries));
    }
  };
}
