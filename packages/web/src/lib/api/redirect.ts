/** Where a sign-in leads: only to a page of ours, for a link to the sign-in must not lead elsewhere afterwards. */
export function destination(params: Pick<URLSearchParams, "get">): string {
  const asked = params.get("to") ?? "/";
  return /^\/(?![/\\])/.test(asked) ? asked : "/";
}

/** A token in the address, which is taken from there: it must stand in no history. */
export const tokenOf = (params: Pick<URLSearchParams, "get">): string | undefined => params.get("token") || undefined;
