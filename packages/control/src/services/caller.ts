/** Who asks, and under which request id the answer is logged. */
export type Caller = {
  readonly team: string;
  readonly key: string;
  readonly keyName: string;
  readonly requestId: string;
};
