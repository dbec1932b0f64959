/** Tests that need the agent to act for another user run only as root. */
export const isRoot = process.getuid?.() === 0;
