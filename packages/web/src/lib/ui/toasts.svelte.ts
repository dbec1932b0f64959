import { WrennError } from "wrenn";

/** A message that goes away by itself; `undo` takes back what it tells of. */
export type Toast = {
  id: number;
  tone: "good" | "bad";
  text: string;
  remedy?: string | undefined;
  undo?: (() => unknown) | undefined;
};

/** Errors stay long enough to be read twice. */
const shownMs = { good: 4_000, bad: 9_000, undo: 6_000 };

let last = 0;
export const toasts = $state<Toast[]>([]);

/** Takes a message away. */
export function dismiss(id: number): void {
  const at = toasts.findIndex((toast) => toast.id === id);
  if (at >= 0) toasts.splice(at, 1);
}

function show(toast: Omit<Toast, "id">, ms: number): number {
  const id = ++last;
  toasts.push({ ...toast, id });
  if (toasts.length > 4) toasts.shift();
  setTimeout(() => dismiss(id), ms);
  return id;
}

/** Says that something went well. */
export const good = (text: string): number => show({ tone: "good", text }, shownMs.good);

/** Says what went wrong and what can be done about it. */
export function bad(thrown: unknown): number {
  const { message, remedy } = problem(thrown);
  return show({ tone: "bad", text: message, remedy }, shownMs.bad);
}

/** Cause and remedy of anything thrown, in words for a person. */
export function problem(thrown: unknown): { message: string; remedy: string | undefined } {
  if (thrown instanceof WrennError) return { message: sentence(thrown.message), remedy: thrown.remedy };
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { message: sentence(message), remedy: "Try again; if it stays, look into the server's log." };
}

const sentence = (text: string): string => {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
};

/**
 * Does something that cannot be taken back a few seconds later, and until then offers to leave it. `hide` takes it from
 * the page at once and gives back what shows it again.
 */
export function undoable(text: string, hide: () => () => void, act: () => Promise<unknown>): void {
  const restore = hide();
  let left = false;
  const timer = setTimeout(run, shownMs.undo);
  const onLeave = () => void run();
  addEventListener("pagehide", onLeave);
  const id = show({ tone: "good", text, undo }, shownMs.undo);
  function undo() {
    left = true;
    clearTimeout(timer);
    removeEventListener("pagehide", onLeave);
    dismiss(id);
    restore();
  }
  async function run() {
    if (left) return;
    left = true;
    clearTimeout(timer);
    removeEventListener("pagehide", onLeave);
    await act().catch((thrown) => {
      restore();
      bad(thrown);
    });
  }
}
