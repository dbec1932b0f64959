/** The tag of a name that has none (E2B protocol, section 5). */
export const defaultTag = "default";

/** The name that a template or snapshot has here, of `name`, `name:default` or `team/name:default`; other tags are part of it. */
export function plainName(id: string): string {
  const name = id.slice(id.lastIndexOf("/") + 1);
  return name.endsWith(`:${defaultTag}`) ? name.slice(0, -defaultTag.length - 1) : name;
}

/** An id as the UUID of the same 128 bits: clients for Python take no other form for the build that a tag points at. */
export function uuidOf(id: string): string {
  const value = [...id].reduce((sum, digit) => sum * 36n + BigInt(Number.parseInt(digit, 36)), 0n);
  return value
    .toString(16)
    .padStart(32, "0")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The id that a UUID of {@link uuidOf} stands for; any other text is an id already. */
export function idOf(text: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text;
  return BigInt(`0x${text.replaceAll("-", "")}`)
    .toString(36)
    .padStart(25, "0");
}
