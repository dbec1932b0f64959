import { expect, test } from "bun:test";
import { Internet, lacking } from "../support/internet.ts";

const reason = lacking();

// The tests themselves are in egress/inside.ts: they and the system run in a name space that has a whole internet.
(reason ? test.skip : test)(
  reason ? `what sandboxes may reach — skipped: ${reason}` : "what sandboxes may reach holds, tried from inside them",
  async () => {
    await using internet = await Internet.make();
    const argv = [process.execPath, "test", "--timeout", "120000", `${import.meta.dir}/egress/inside.ts`];
    expect(await internet.run(argv, { TEST_CA: internet.authority })).toBe(0);
  },
  600_000,
);
