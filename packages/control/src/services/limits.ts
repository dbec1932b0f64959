/** Longest a host is given; the slowest step behind each is a first boot of a template, or writing or reading all of a guest's memory. */
export const limits = {
  create: 180_000,
  pause: 120_000,
  resume: 120_000,
  checkpoint: 120_000,
  destroy: 60_000,
  quick: 10_000,
} as const;
