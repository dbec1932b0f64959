/**
 * Body of the guest agent's `POST /init`, sent after every restore and never by clients.
 * Names of the first five are those of the E2B and Wrenn agents; the rest give a restored guest its own identity.
 */
export type InitRequest = {
  accessToken?: string;
  envVars?: Record<string, string>;
  defaultUser?: string;
  defaultWorkdir?: string;
  /** Wall clock of the host, RFC 3339; the guest's clock is set to it. Also the fence: an older call changes no data. */
  timestamp?: string;
  /** 25 base-36 characters. */
  sandboxId?: string;
  templateId?: string;
  hostname?: string;
  /** 32 hex digits, written to `/etc/machine-id`. */
  machineId?: string;
  /** Base64 of at least 32 fresh random bytes; the kernel's generator is given them and reseeded before the answer. */
  entropy?: string;
  /** Certificates, PEM, that the guest's programs are to trust; they replace those of an earlier call. */
  caBundle?: string;
  /** An identity to practise with, which no sandbox has: restore hooks do not run, and the next one forgets what was done. */
  rehearsal?: boolean;
  /** The disk was made this large: the root file system is grown over it before the answer. */
  diskBytes?: number;
};

/** Answer of `POST /init` when it carried `entropy` (status 200); without it the answer is 204, as clients expect. */
export type InitResponse = {
  /** True when RNDADDENTROPY and RNDRESEEDCRNG both succeeded. */
  reseeded: boolean;
  /** The guest's wall clock after it was set, RFC 3339. */
  timestamp: string;
  hostname: string;
  version: string;
  /** Which of the E2B agent's features are there. */
  envdVersion: string;
};
