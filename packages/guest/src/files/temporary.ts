const prefix = ".wrenn-upload-";

/** A name for a file that is being written and will be renamed; it tells whether there it replaces another. */
export const temporaryName = (replaces: boolean): string => `${prefix}${replaces ? "r" : "n"}-${crypto.randomUUID()}`;

/** Whether `name` is one of these: not the user's file, so watchers do not speak of it. */
export const isTemporary = (name: string): boolean => name.startsWith(prefix);

/** What a temporary file becomes under its final name. */
export const replacesAnother = (name: string): boolean => name.startsWith(`${prefix}r-`);
