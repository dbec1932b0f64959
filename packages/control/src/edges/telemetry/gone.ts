import { WrennError } from "@wrenn/contract";

/** What a question about a sandbox gives; `undefined` when the sandbox is gone. */
export const untilGone = <T>(answer: Promise<T>): Promise<T | undefined> =>
  answer.catch((thrown: unknown) => {
    if (WrennError.from(thrown).code === "not_found") return undefined;
    throw thrown;
  });
