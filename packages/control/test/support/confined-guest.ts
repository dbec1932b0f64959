import { type GuestProcess, startGuestProcess } from "../../../../test/support/guest-process.ts";

/**
 * Starts the guest agent under bubblewrap: this machine's files are there to be read, and an empty folder is its home.
 * It is for requests that nobody has read before they are sent: a made-up path may name anything, to be written or removed.
 */
export const startConfinedGuest = (): Promise<GuestProcess> =>
  startGuestProcess((home) => [
    ...["bwrap", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", home, home],
    ...["--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--die-with-parent", "--setenv", "HOME", home],
  ]);
