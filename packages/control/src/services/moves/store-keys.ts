import { hkdfSync } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { hostagent } from "@wrenn/contract";

/** Keys of the object store, one for each team and one for what all teams have in common: made from the installation's. */
export class StoreKeys {
  constructor(
    /** 32 bytes: `WRENN_ENCRYPTION_KEY`. */
    readonly encryptionKey: Buffer,
  ) {}

  /** What a host needs to send or bring a sandbox of `team`. */
  of(team: string): MessageInitShape<typeof hostagent.VaultsSchema> {
    return { team: this.#vault(`team ${team}`), common: this.#vault("common") };
  }

  /** The name tells nobody whose part of the store it is. */
  #vault(of: string): { name: string; key: Uint8Array } {
    const derive = (use: string, length: number) =>
      Buffer.from(hkdfSync("sha256", this.encryptionKey, new Uint8Array(0), `wrenn store ${use} ${of}`, length));
    return { name: derive("name", 12).toString("hex"), key: derive("key", 32) };
  }
}
