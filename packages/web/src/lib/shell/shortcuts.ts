import { palette } from "./palette.svelte.ts";

/** How long the second key of a pair such as `g s` may take. */
const pairMs = 1_200;

let first = "";
let at = 0;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** Keys of the whole dashboard: the palette, and the shortcuts of the commands it offers. */
export function onKey(event: KeyboardEvent): void {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
    // In a terminal Ctrl-K is the shell's; there the palette opens with Ctrl-Shift-K.
    if (event.ctrlKey && !event.shiftKey && inTerminal(event.target)) return;
    event.preventDefault();
    palette.open = !palette.open;
    return;
  }
  if (event.metaKey || event.ctrlKey || event.altKey || isTyping(event.target) || isDialogOpen()) return;
  const key = event.key;
  const pair = event.timeStamp - at < pairMs && first ? `${first} ${key}` : "";
  first = key;
  at = event.timeStamp;
  const command =
    palette.commands.find(({ keys }) => keys === pair) ?? palette.commands.find(({ keys }) => keys === key);
  if (command) {
    event.preventDefault();
    first = "";
    command.run();
  } else if (key === "?") palette.helpOpen = true;
}

const inTerminal = (target: EventTarget | null): boolean =>
  target instanceof Element && target.closest(".xterm") !== null;
const isDialogOpen = (): boolean => document.querySelector("[role=dialog],[role=alertdialog],[role=menu]") !== null;
