import { WrennError } from "@wrenn/contract/core";

/** What a caller whose deadline passed is told. */
export const deadlineError = (): WrennError =>
  new WrennError("timeout", "the deadline that the request set has passed", {
    remedy: "Allow more time, or none, with Connect-Timeout-Ms.",
  });
