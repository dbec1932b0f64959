import type { Transporter } from "nodemailer";
import type { Smtp } from "../../config-access.ts";
import type { Log } from "../../log.ts";
import type { MailRow, MailStore } from "../../store/people/mails.ts";
import { compose, type Letter, type Mail } from "./letters.ts";
import type { Box } from "./secrets.ts";

const purpose = "mail";
/** How often the queue is looked at when nobody rings: mails of a replica that died, and retries. */
const lookMs = 15_000;
/** SMTP over TLS from the first byte (RFC 8314); every other port begins in clear and upgrades. */
const implicitTlsPort = 465;
const timeoutMs = 20_000;

/** A mail of the development outbox, readable. */
export type OutboxMail = { id: string; to: string; subject: string; text: string; createdAt: Date };

/** What a mailer stands on. */
type Ground = { store: MailStore; box: Box; smtp: Smtp | undefined; log: Log };

/** Sends mails from a queue in the database, so that none is lost with the process. Without SMTP they wait there to be read. */
export class Mailer implements AsyncDisposable {
  #transport: Promise<Transporter> | undefined;
  readonly #timer: Timer;
  #working: Promise<void> = Promise.resolve();

  constructor(readonly ground: Ground) {
    this.#timer = setInterval(() => this.ring(), lookMs);
    this.#timer.unref();
  }

  /** Whether mails are sent at all. */
  get sends(): boolean {
    return this.ground.smtp !== undefined;
  }

  /** Puts a letter into the queue of `store`, with whatever else its transaction does. Ring when that is over. */
  async post(store: MailStore, letter: Letter): Promise<void> {
    const { recipient, subject } = letter;
    const sealed = this.ground.box.seal(JSON.stringify(compose(letter)), purpose);
    await store.insert({ recipient, subject: oneLine(subject), letter: sealed });
  }

  /** Says that something may be in the queue. */
  ring(): void {
    this.#working = this.#working.then(() => this.#work()).catch((err) => this.ground.log.warn({ err }, "mail queue"));
  }

  /** The development outbox, newest first. */
  async outbox(): Promise<OutboxMail[]> {
    const rows = await this.ground.store.newest();
    return rows.flatMap((row) => {
      const mail = this.#open(row);
      return mail
        ? [{ id: row.id, to: row.recipient, subject: row.subject, text: mail.text, createdAt: row.createdAt }]
        : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#working;
    (await this.#transport)?.close();
  }

  async #work(): Promise<void> {
    const { store, smtp, log } = this.ground;
    const forgotten = await store.prune();
    if (forgotten > 0 && this.sends) log.error({ count: forgotten }, "mails could not be sent within a day");
    if (!smtp) return;
    for (let rows = await store.take(); rows.length > 0; rows = await store.take())
      for (const row of rows) await this.#send(smtp, row);
  }

  async #send(smtp: Smtp, row: MailRow): Promise<void> {
    const { store, log } = this.ground;
    try {
      this.#transport ??= transportOf(smtp);
      const transport = await this.#transport;
      const mail = this.#open(row);
      if (mail)
        await transport.sendMail({
          from: smtp.from,
          to: { name: "", address: row.recipient },
          subject: row.subject,
          ...mail,
        });
      else log.error({ mail: row.id }, "a mail was written under another WRENN_ENCRYPTION_KEY");
      await store.sent(row.id);
    } catch (cause) {
      log.warn({ err: cause, mail: row.id, attempts: row.attempts }, "a mail could not be sent; it is tried again");
      await store.failed(row.id, cause instanceof Error ? cause.message : "unknown", waitSec(row.attempts));
    }
  }

  #open(row: MailRow): Mail | undefined {
    const text = this.ground.box.open(row.letter, purpose);
    return text === undefined ? undefined : (JSON.parse(text) as Mail);
  }
}

/** Doubles from 10 seconds to an hour. */
const waitSec = (attempts: number): number => Math.min(3_600, 5 * 2 ** attempts);

/** A subject holds what people typed; a line break in it would begin another header. */
const oneLine = (text: string): string => text.replace(/[\r\n]+/g, " ");

/** The library is loaded with the first mail: most installations send none, and it holds three megabytes. */
async function transportOf({ host, port, username, password }: Smtp): Promise<Transporter> {
  const { createTransport } = await import("nodemailer");
  const isLocal = host === "localhost" || host === "127.0.0.1" || host === "::1";
  return createTransport({
    host,
    port,
    secure: port === implicitTlsPort,
    requireTLS: !isLocal, // a relay on this machine needs none
    ...(isLocal && { ignoreTLS: true }),
    connectionTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    ...(username && { auth: { user: username, pass: password ?? "" } }),
  });
}
