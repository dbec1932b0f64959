import { WrennError } from "@wrenn/contract/core";

/** What a failed call on the file system means to the caller; `path` is named in the text. */
export function fileError(thrown: unknown, path: string): WrennError {
  if (thrown instanceof WrennError) return thrown;
  const errno = (thrown as { code?: unknown }).code;
  const parts = { details: { path, errno: String(errno) }, cause: thrown };
  switch (errno) {
    case "ENOENT":
      return new WrennError("not_found", `path '${path}' does not exist`, { remedy: "Check the path.", ...parts });
    case "ENOSPC":
    case "EDQUOT":
      return new WrennError("insufficient_storage", "there is not enough disk space", {
        remedy: "Delete files, or use a sandbox with a larger disk.",
        ...parts,
      });
    case "EISDIR":
      return new WrennError("invalid_request", `path '${path}' is a directory`, { remedy: "Name a file.", ...parts });
    case "ENOTDIR":
    case "ENAMETOOLONG":
    case "ELOOP":
    case "EINVAL":
      return new WrennError("invalid_request", `path '${path}' cannot be used: ${errno}`, {
        remedy: "Check each part of the path.",
        ...parts,
      });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new WrennError("forbidden", `path '${path}' may not be accessed: ${errno}`, {
        remedy: "Choose a path the sandbox may write to.",
        ...parts,
      });
    default:
      return new WrennError("internal_error", `the file system refused '${path}': ${errno ?? thrown}`, {
        remedy: "Look at the sandbox's disk.",
        ...parts,
      });
  }
}
