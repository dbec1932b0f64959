import { describe, expect, test } from "bun:test";
import { arrows, events, isFinal, states, step } from "@wrenn/contract";

describe("the state machine", () => {
  for (const from of states)
    for (const event of events)
      test(`${from} + ${event} leads to a known state or cannot happen`, () => {
        const to = step(from, event);
        if (to !== undefined) expect(states).toContain(to);
        expect(to).toBe((arrows[from] as Record<string, typeof to>)[event]);
      });

  test("only stopped is final", () => expect(states.filter(isFinal)).toEqual(["stopped"]));

  test("every state can be reached from pending and, unless final, can be stopped or ends by itself", () => {
    const reached = new Set<string>(["pending"]);
    for (let grew = true; grew; ) {
      grew = false;
      for (const state of states)
        if (reached.has(state))
          for (const to of Object.values(arrows[state])) if (!reached.has(to)) grew = !!reached.add(to);
    }
    expect([...reached].sort()).toEqual([...states].sort());
    for (const state of states.filter((s) => !isFinal(s))) expect(Object.keys(arrows[state])).toContain("gone");
  });
});
