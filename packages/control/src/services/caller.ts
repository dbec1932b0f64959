/** Who does something: a person, a program with a key, or the server by itself. */
export type Actor = {
  readonly type: "user" | "api_key" | "system";
  readonly id: string;
  readonly name: string;
};

/** Who asks, for which team, and under which request id the answer is logged. */
export type Caller = {
  readonly team: string;
  readonly actor: Actor;
  readonly requestId: string;
};
