/** Where people find this installation. */
export class Site {
  #own = "";

  constructor(
    readonly publicUrl: string | undefined,
    readonly dashboardUrl: string | undefined,
  ) {}

  /** The address that the server listens on, for an installation that names none. */
  listens(address: string): void {
    this.#own = address.replace("//127.0.0.1:", "//localhost:").replace("//0.0.0.0:", "//localhost:");
  }

  /** A page of the dashboard. */
  dashboard(path: string): string {
    return (this.dashboardUrl ?? this.publicUrl ?? this.#own) + path;
  }

  /** A route of the server itself. */
  server(path: string): string {
    return (this.publicUrl ?? this.#own) + path;
  }
}
