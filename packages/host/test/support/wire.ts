import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { headers, hostagent } from "@wrenn/contract";

/** A client of a host agent's RPC service that shows `secret` as the host token. */
export function hostClient(address: string, secret: string) {
  const send = (input: RequestInfo | URL, init?: RequestInit) => {
    const all = new Headers(init?.headers);
    all.set(headers.hostToken, secret);
    return fetch(input, { ...init, headers: all });
  };
  return createClient(
    hostagent.HostAgentService,
    createConnectTransport({ baseUrl: address, fetch: send as typeof fetch }),
  );
}
