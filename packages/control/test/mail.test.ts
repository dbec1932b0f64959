import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { AddressInfo } from "node:net";
import type { rest } from "@wrenn/contract";
import { SMTPServer } from "smtp-server";
import { call, login, password } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

type Received = { from: string; to: string[]; text: string };
const received: Received[] = [];
/** How many mails the server turns away before it takes one. */
let refuse = 0;

/** A real mail server on loopback. */
const smtp = new SMTPServer({
  authOptional: true,
  disabledCommands: ["STARTTLS"],
  logger: false,
  onData(stream, session, done) {
    let text = "";
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    stream.on("end", () => {
      if (refuse-- > 0) return done(Object.assign(new Error("try later"), { responseCode: 451 }));
      const { mailFrom, rcptTo } = session.envelope;
      received.push({ from: mailFrom ? mailFrom.address : "", to: rcptTo.map(({ address }) => address), text });
      done();
    });
  },
});

let plane: Plane;
beforeAll(async () => {
  await new Promise<void>((listening) => smtp.listen(0, "127.0.0.1", listening));
  const { port } = smtp.server.address() as AddressInfo;
  const server = { host: "127.0.0.1", port, from: "wrenn@example.com" };
  plane = await Plane.start({}, { smtp: server, publicUrl: "https://wrenn.example.com/" });
});
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await new Promise<void>((closed) => smtp.close(() => closed()));
});

const mailTo = async (email: string): Promise<Received> => {
  for (;;) {
    const found = received.find(({ to }) => to.includes(email));
    if (found) return found;
    await Bun.sleep(10);
  }
};
const signUp = (name: string) =>
  call<rest.SignedUp>(plane, "POST", "/v1/auth/signup", { email: `${name}@example.com`, name, password });

describe("with a mail server", () => {
  test("the link is in the mail and nowhere else, at the public address, as text and as HTML", async () => {
    const { body } = await signUp("ann");
    expect(body.activation_url).toBeUndefined();
    expect(JSON.stringify(body)).not.toMatch(/[0-9a-f]{32}/);
    const { from, to, text } = await mailTo("ann@example.com");
    expect([from, to]).toEqual(["wrenn@example.com", ["ann@example.com"]]);
    expect(text).toContain("Content-Type: text/plain");
    expect(text).toContain("Content-Type: text/html");
    const plain = text.replaceAll("=\r\n", "").replaceAll("=3D", "=");
    const token = /https:\/\/wrenn\.example\.com\/activate\?token=([0-9a-f]{32})/.exec(plain)?.[1];
    expect((await call(plane, "POST", "/v1/auth/activate", { token })).status).toBe(200);
    expect((await login(plane, "ann@example.com", password)).status).toBe(200);
  });

  test("there is no outbox, not even for this machine", async () =>
    expect((await call(plane, "GET", "/v1/dev/outbox")).code).toBe("not_found"));

  test("a name cannot add a header or a tag, nor a recipient", async () => {
    const name = "</p><b>x</b>";
    await call(plane, "POST", "/v1/auth/signup", { email: "eve@example.com", name, password });
    const { text, to } = await mailTo("eve@example.com");
    expect(to).toEqual(["eve@example.com"]);
    expect(text).toContain("&lt;b&gt;x&lt;/b&gt;");
  });

  test("a mail that was turned away waits in the database and is sent later, by another process too", async () => {
    refuse = 1;
    await signUp("bob");
    while (refuse > 0) await Bun.sleep(10);
    const { SQL } = await import("bun");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    for (;;) {
      const [row] = await sql`select error, attempts from mails where recipient = 'bob@example.com'`;
      if (row?.error) break;
      await Bun.sleep(10);
    }
    expect(received.some(({ to }) => to.includes("bob@example.com"))).toBe(false);
    await sql`update mails set due_at = now()`;
    await plane.restart();
    await signUp("cid"); // what is posted looks at the queue
    expect((await mailTo("bob@example.com")).text).toContain("Activate");
    while ((await sql`select 1 from mails`).length > 0) await Bun.sleep(10);
  });
});
