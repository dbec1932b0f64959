/** The time, for everything that shows an age; one timer for all of them. */
class Clock {
  now = $state(Date.now());
  constructor() {
    setInterval(() => {
      if (document.visibilityState === "visible") this.now = Date.now();
    }, 1_000);
  }
}

export const clock = new Clock();
