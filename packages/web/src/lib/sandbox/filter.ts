import type { SandboxInfo } from "wrenn";

/** What a list of sandboxes shows, as it stands in the address. */
export type Filter = { text: string; status: string; template: string; sort: string };

/** Reads a filter from an address. */
export function readFilter(params: Pick<URLSearchParams, "get">): Filter {
  const of = (name: string) => params.get(name) ?? "";
  return { text: of("q"), status: of("status"), template: of("template"), sort: of("sort") || "-created" };
}

/** The address's query for a filter; what is left at its default is left out. */
export function writeFilter({ text, status, template, sort }: Filter): string {
  const query = new URLSearchParams();
  if (text) query.set("q", text);
  if (status) query.set("status", status);
  if (template) query.set("template", template);
  if (sort !== "-created") query.set("sort", sort);
  return query.size > 0 ? `?${query}` : "";
}

const values: Record<string, (one: SandboxInfo) => string | number> = {
  id: (one) => one.name ?? one.id,
  status: (one) => one.status,
  template: (one) => one.template,
  vcpus: (one) => one.vcpus,
  memory: (one) => one.memoryMiB,
  created: (one) => one.createdAt.getTime(),
  active: (one) => one.lastActiveAt?.getTime() ?? 0,
};

/** The sandboxes that a filter lets through, in its order. `sort` is a column, with `-` before it for the other way round. */
export function filtered(all: readonly SandboxInfo[], filter: Filter): SandboxInfo[] {
  const text = filter.text.trim().toLowerCase();
  const kept = all.filter(
    (one) =>
      (!filter.status || one.status === filter.status) &&
      (!filter.template || one.template === filter.template) &&
      (!text || matches(one, text)),
  );
  const column = filter.sort.replace(/^-/, "");
  const value = values[column] ?? values.created!;
  const way = filter.sort.startsWith("-") ? -1 : 1;
  return kept.sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    return left < right ? -way : left > right ? way : 0;
  });
}

function matches(one: SandboxInfo, text: string): boolean {
  if (one.id.includes(text) || one.name?.toLowerCase().includes(text) || one.template.toLowerCase().includes(text))
    return true;
  return Object.entries(one.metadata).some(([name, value]) => `${name}=${value}`.toLowerCase().includes(text));
}
