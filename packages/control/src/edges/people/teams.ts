import { rest } from "@wrenn/contract";
import { z } from "zod";
import { needPerson } from "../../services/access.ts";
import type { Teams } from "../../services/people/teams.ts";
import type { InvitationRow, MemberRow, OwnTeam } from "../../store/people/teams.ts";
import { type App, endpoint, type Input } from "../endpoint.ts";

/** `/v1/teams` (Wrenn REST API 6). */
export function teamRoutes(app: App, teams: Teams): void {
  const one = async ({ caller, c }: Pick<Input<unknown, unknown>, "caller" | "c">) => {
    const { team, members } = await teams.get(needPerson(caller), c.req.param("id")!);
    return { team: show(team), members: members.map(member) };
  };
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/teams", access: "person", status: 200, answer: z.array(rest.Team) },
      summary: "The teams one is in.",
    },
    async ({ caller }) => (await teams.list(needPerson(caller))).map(show),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/teams", access: "person", status: 201, body: rest.NameTeam, answer: rest.Team },
      summary: "Make a team and own it.",
    },
    async ({ caller, body }) => show(await teams.create(needPerson(caller), body.name)),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/teams/{id}", access: "person", status: 200, answer: rest.TeamWithMembers },
      summary: "The session's team with its members.",
      codes: ["forbidden", "not_found"],
      tagged: true,
    },
    one,
  );
  endpoint(
    app,
    {
      ...{ method: "patch", path: "/v1/teams/{id}", access: "person", status: 204, body: rest.NameTeam },
      summary: "Rename the team.",
      codes: ["forbidden", "not_found"],
      changes: one,
    },
    async ({ caller, body, c }) => teams.rename(needPerson(caller), c.req.param("id")!, body.name),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/teams/{id}", access: "person", status: 204 },
      summary: "Delete the team with its sandboxes, keys and sessions.",
      codes: ["forbidden", "not_found"],
      changes: one,
    },
    async ({ caller, c }) => teams.remove(needPerson(caller), c.req.param("id")!),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/teams/{id}/leave", access: "person", status: 204 },
      summary: "Leave the team.",
      codes: ["forbidden", "not_found"],
    },
    async ({ caller, c }) => teams.leave(needPerson(caller), c.req.param("id")!),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/teams/{id}/transfer", access: "person", status: 204, body: rest.TransferTeam },
      summary: "Hand the team over to another member.",
      codes: ["forbidden", "not_found"],
    },
    async ({ caller, body, c }) => teams.transfer(needPerson(caller), { team: c.req.param("id")!, user: body.user_id }),
  );
}

/** `/v1/teams/{id}/members`. */
export function memberRoutes(app: App, teams: Teams): void {
  const path = "/v1/teams/{id}/members" as const;
  endpoint(
    app,
    {
      ...{ method: "get", path, access: "person", status: 200, answer: z.array(rest.Member) },
      summary: "The team's members.",
      codes: ["forbidden"],
    },
    async ({ caller, c }) => (await teams.members(needPerson(caller), c.req.param("id")!)).map(member),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path, access: "person", status: 201, body: rest.AddMember, answer: rest.Member },
      summary: "Make somebody who has an account a member.",
      codes: ["forbidden", "not_found", "rate_limited"],
    },
    async ({ caller, body, c }) => member(await teams.add(needPerson(caller), c.req.param("id")!, body.email)),
  );
  endpoint(
    app,
    {
      ...{ method: "patch", path: `${path}/{user}`, access: "person", status: 204, body: rest.SetRole },
      summary: "Change what a member is.",
      codes: ["forbidden", "not_found"],
    },
    async ({ caller, body, c }) =>
      teams.setRole(needPerson(caller), { team: c.req.param("id")!, user: c.req.param("user")! }, body.role),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: `${path}/{user}`, access: "person", status: 204 },
      summary: "Remove a member; their sessions and keys in the team end.",
      codes: ["forbidden", "not_found"],
    },
    async ({ caller, c }) => teams.expel(needPerson(caller), { team: c.req.param("id")!, user: c.req.param("user")! }),
  );
}

/** `/v1/teams/{id}/invitations`, and how one is accepted. */
export function invitationRoutes(app: App, teams: Teams): void {
  const path = "/v1/teams/{id}/invitations" as const;
  endpoint(
    app,
    {
      ...{ method: "post", path, access: "person", status: 201, body: rest.Invite, answer: rest.Invitation },
      summary: "Invite an address by mail; another invitation of it is replaced.",
      codes: ["forbidden", "not_found", "rate_limited"],
    },
    async ({ caller, body, c }) => {
      const { row, url } = await teams.invite(needPerson(caller), c.req.param("id")!, body);
      return { ...invitation(row), ...(url !== undefined && { url }) };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path, access: "person", status: 200, answer: z.array(rest.Invitation) },
      summary: "Invitations that wait for an answer.",
      codes: ["forbidden"],
    },
    async ({ caller, c }) => (await teams.invitations(needPerson(caller), c.req.param("id")!)).map(invitation),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: `${path}/{invitation}`, access: "person", status: 204 },
      summary: "Take an invitation back.",
      codes: ["forbidden", "not_found"],
    },
    async ({ caller, c }) => teams.revokeInvitation(needPerson(caller), c.req.param("id")!, c.req.param("invitation")!),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/invitations/accept", access: "person", status: 200 },
      ...{ body: rest.TokenBody, answer: rest.Team },
      summary: "Join the team of an invitation to one's own address.",
      codes: ["invalid_token", "rate_limited"],
    },
    async ({ caller, body }) => show(await teams.accept(needPerson(caller), body.token)),
  );
}

const show = (team: OwnTeam): rest.Team => ({
  id: team.id,
  name: team.name,
  slug: team.slug,
  is_byoc: team.isByoc,
  created_at: team.createdAt.toISOString(),
  role: team.role,
});

const member = (row: MemberRow): rest.Member => ({
  user_id: row.id,
  name: row.name,
  email: row.email,
  role: row.role,
  joined_at: row.joinedAt.toISOString(),
});

const invitation = (row: InvitationRow): rest.Invitation => ({
  id: row.id,
  email: row.email,
  role: row.role,
  ...(row.invitedBy !== null && { invited_by: row.invitedBy }),
  created_at: row.createdAt.toISOString(),
  expires_at: row.expiresAt.toISOString(),
});
