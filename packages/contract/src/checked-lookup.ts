import { lookup } from "node:dns";
import type { LookupFunction } from "node:net";

/**
 * A resolver for `node:http` that gives away only addresses which `isAllowed`, and fails with `refusal` where a name has
 * none. What was checked is what is connected to, so a name cannot lead elsewhere between the two (DNS rebinding).
 */
export const checkedLookup =
  (isAllowed: (address: string) => boolean, refusal: (name: string) => Error): LookupFunction =>
  (name, options, done) =>
    lookup(name, { ...options, all: true }, (error, found) => {
      if (error) return done(error, []);
      const open = found.filter(({ address }) => isAllowed(address));
      if (open.length === 0) return done(refusal(name), []);
      if (options.all) return done(null, open);
      done(null, open[0]!.address, open[0]!.family);
    });
