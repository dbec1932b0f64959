/** How a file is shown. */
export type Kind = "image" | "pdf" | "text";

const images: Record<string, string> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  bmp: "image/bmp",
  ico: "image/x-icon",
  svg: "image/svg+xml",
};

const extensionOf = (name: string): string => /\.([^./]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";

/** What a file's name promises. */
export function kindOf(name: string): Kind {
  const extension = extensionOf(name);
  return extension in images ? "image" : extension === "pdf" ? "pdf" : "text";
}

/** The media type under which a preview is shown: one of ours, never what the sandbox says. */
export const previewType = (name: string): string => images[extensionOf(name)] ?? "application/pdf";

/** Whether these bytes are no text: a zero byte in their beginning. */
export const isBinary = (bytes: Uint8Array): boolean => bytes.subarray(0, 8_192).includes(0);

/** The folder of a path. */
export const folderOf = (path: string): string => path.replace(/\/[^/]*$/, "") || "/";

/** A name in a folder. */
export const within = (folder: string, name: string): string => `${folder === "/" ? "" : folder}/${name}`;

/** What is wrong with a name for a file; undefined when nothing is. */
export function nameError(name: string): string | undefined {
  if (name.includes("/")) return "A name has no slash.";
  if (name === "." || name === "..") return "That name means a folder.";
  return new TextEncoder().encode(name).length > 255 ? "A name has at most 255 bytes." : undefined;
}
