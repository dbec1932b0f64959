import type { rest } from "@wrenn/contract";
import type { AccessConfig } from "../../config-access.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import { everyTeam } from "../../store/people/quotas.ts";
import { type Quotas, shown } from "./quotas.ts";

/** What administrators decide for the whole installation; what they never set is as the configuration says. */
export class Settings {
  constructor(
    readonly store: PeopleStore,
    readonly config: AccessConfig,
    readonly quotas: Quotas,
  ) {}

  /** All settings. */
  async get(): Promise<rest.Settings> {
    const [kept, row] = await Promise.all([this.store.admin.settings(), this.store.quotas.of(everyTeam)]);
    return {
      signup: kept.signup ?? this.config.signUp,
      default_quotas: shown(row),
      features: kept.features ?? {},
    };
  }

  /** Changes settings; those that are absent stay. */
  async update({ default_quotas, ...change }: rest.UpdateSettings): Promise<rest.Settings> {
    await this.store.transaction((inside) => inside.admin.set(change));
    if (default_quotas) await this.quotas.set(everyTeam, default_quotas);
    return await this.get();
  }

  /** Who may make an account. */
  async signUp(): Promise<rest.Settings["signup"]> {
    return (await this.store.admin.settings()).signup ?? this.config.signUp;
  }
}
