/** The tag of a name that has none (E2B protocol, section 5). */
export const defaultTag = "default";

/** The name that a template or snapshot has here, of `name`, `name:default` or `team/name:default`; other tags are part of it. */
export function plainName(id: string): string {
  const name = id.slice(id.lastIndexOf("/") + 1);
  return name.endsWith(`:${defaultTag}`) ? name.slice(0, -defaultTag.length - 1) : name;
}
