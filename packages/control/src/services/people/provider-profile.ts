/** What a provider says about somebody: who it is there, and what may be taken over from it. */
export type ProviderProfile = { subject: string; email: string | undefined; name: string | undefined };
