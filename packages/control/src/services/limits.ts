/** Longest a host is given; the slowest step behind each is a first boot of a template, or writing or reading all of a guest's memory, here or over a line. */
export const limits = {
  create: 180_000,
  pause: 120_000,
  resume: 120_000,
  hibernate: 3_600_000,
  checkpoint: 120_000,
  destroy: 60_000,
  quick: 10_000,
} as const;
