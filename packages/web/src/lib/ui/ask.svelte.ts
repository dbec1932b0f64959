/** A question whose answer is a line of text. */
export type Request = {
  title: string;
  label: string;
  action: string;
  value?: string | undefined;
  hint?: string | undefined;
  /** Whether nothing is an answer too. */
  mayBeEmpty?: boolean;
  /** What is wrong with an answer; undefined when nothing is. */
  check?: ((text: string) => string | undefined) | undefined;
  resolve: (text: string | undefined) => void;
};

/** The question that is open. */
export const requested = $state<{ request: Request | undefined }>({ request: undefined });

/** Asks for a line of text; undefined when the reader thinks better of it. */
export function ask(request: Omit<Request, "resolve">): Promise<string | undefined> {
  return new Promise((resolve) => {
    requested.request = {
      ...request,
      resolve: (text) => {
        requested.request = undefined;
        resolve(text);
      },
    };
  });
}
