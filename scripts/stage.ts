type Voice = { held: string; hasEnded: boolean };

/**
 * One log for programs that run side by side, in which they stand one after another, in the order they began in. What
 * the first says is shown as it comes; what the others say is held until those before them have ended.
 */
export class Stage {
  readonly #voices: Voice[] = [];

  constructor(readonly show: (text: string) => void) {}

  /** A program begins to speak. */
  enter(): { say(text: string): void; leave(): void } {
    const voice: Voice = { held: "", hasEnded: false };
    this.#voices.push(voice);
    return {
      say: (text) => {
        voice.held += text;
        this.#go();
      },
      leave: () => {
        voice.hasEnded = true;
        this.#go();
      },
    };
  }

  /** Shows all that is held, for a run that is cut short. */
  flush(): void {
    for (const voice of this.#voices) this.#show(voice);
  }

  #go(): void {
    for (let first = this.#voices[0]; first !== undefined; first = this.#voices[0]) {
      this.#show(first);
      if (!first.hasEnded) return;
      this.#voices.shift();
    }
  }

  #show(voice: Voice): void {
    if (voice.held) this.show(voice.held);
    voice.held = "";
  }
}
