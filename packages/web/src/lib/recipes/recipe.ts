/** One action as the command line, the SDK and any HTTP client do it. */
export type Recipe = { title: string; cli?: string; sdk?: string; curl?: string };

/** As whom a request is made: with a team's key, or as a person whose token a sign-in gave. */
type As = "team" | "person";

const shown = { team: '-H "X-API-Key: $WRENN_API_KEY"', person: '-H "Authorization: Bearer $WRENN_TOKEN"' };

/** A request for a shell. */
export function curl(request: string, body?: object, as: As = "team"): string {
  const [method, path] = request.split(" ");
  const parts = [
    `curl ${method === "GET" ? "" : `-X ${method} `}${location.origin}${path}`,
    shown[as],
    ...(body ? [`-H 'Content-Type: application/json'`, `-d '${JSON.stringify(body)}'`] : []),
  ];
  return parts.join(" \\\n  ");
}

/** A request that a person makes. */
export const person = (title: string, request: string, body?: object): Recipe => ({
  title,
  curl: curl(request, body, "person"),
});

/** Signing in as a person, whose token the others use. */
export const signIn: Recipe = {
  title: "Sign in",
  curl: `WRENN_TOKEN=$(curl -X POST ${location.origin}/v1/auth/login \\\n  -H 'Content-Type: application/json' \\\n  -d '{"email":"you@example.com","password":"…"}' | jq -r .token)`,
};
