/** A question that waits for its answer. */
export type Question = {
  title: string;
  text: string;
  action: string;
  type?: string | undefined;
  resolve: (yes: boolean) => void;
};

/** The question that is open. */
export const asking = $state<{ question: Question | undefined }>({ question: undefined });

/** Asks before something that cannot be taken back; `type` is a word to be typed. */
export function confirm(question: Omit<Question, "resolve">): Promise<boolean> {
  return new Promise((resolve) => {
    asking.question = {
      ...question,
      resolve: (yes) => {
        asking.question = undefined;
        resolve(yes);
      },
    };
  });
}
