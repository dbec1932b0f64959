import { AdminStore } from "./admin.ts";
import { AttemptStore } from "./attempts.ts";
import { AuditStore } from "./audit.ts";
import { MailStore } from "./mails.ts";
import type { Queries } from "./queries.ts";
import { QuotaStore } from "./quotas.ts";
import { SessionStore } from "./sessions.ts";
import { TeamStore } from "./teams.ts";
import { TokenStore } from "./tokens.ts";
import { UserStore } from "./users.ts";

/** Everything about people, on one connection or on the pool. */
export class PeopleStore {
  readonly users: UserStore;
  readonly teams: TeamStore;
  readonly sessions: SessionStore;
  readonly tokens: TokenStore;
  readonly mails: MailStore;
  readonly attempts: AttemptStore;
  readonly audit: AuditStore;
  readonly quotas: QuotaStore;
  readonly admin: AdminStore;

  constructor(readonly db: Queries) {
    this.users = new UserStore(db);
    this.teams = new TeamStore(db);
    this.sessions = new SessionStore(db);
    this.tokens = new TokenStore(db);
    this.mails = new MailStore(db);
    this.attempts = new AttemptStore(db);
    this.audit = new AuditStore(db);
    this.quotas = new QuotaStore(db);
    this.admin = new AdminStore(db);
  }

  /** Does `work` as a whole or not at all. */
  transaction<T>(work: (store: PeopleStore) => Promise<T>): Promise<T> {
    return this.db.transaction((transaction) => work(new PeopleStore(transaction as unknown as Queries)));
  }
}
