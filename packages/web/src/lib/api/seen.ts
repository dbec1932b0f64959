/** How long a page that nobody looks at goes on: who switches between tabs and back finds everything as it was. */
const lingerMs = 20_000;

/**
 * Follows something while somebody looks at the page, and anew when they look again: nobody needs what a tab behind
 * others is told, and the server would send it all day. Answers what ends it.
 */
export function whileSeen(follow: (signal: AbortSignal) => unknown): () => void {
  let stop: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    stop?.abort();
    stop = undefined;
  };
  const look = () => {
    clearTimeout(timer);
    if (document.visibilityState === "hidden") timer = setTimeout(end, lingerMs);
    else if (!stop) {
      stop = new AbortController();
      follow(stop.signal);
    }
  };
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    document.removeEventListener("visibilitychange", look);
    clearTimeout(timer);
    end();
  };
}
