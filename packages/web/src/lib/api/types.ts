/** Shapes of the REST API that the dashboard reads where the SDK has no words of its own. Times are RFC 3339 text. */

export type Role = "owner" | "admin" | "member";

export type AuthOptions = {
  signup: "open" | "invite" | "closed";
  providers: { id: string; name: string }[];
  mail: boolean;
  first_account: boolean;
};

export type Me = {
  id: string;
  name: string;
  email: string;
  has_password: boolean;
  providers: string[];
  is_admin: boolean;
  team_id: string;
  role: Role;
  mfa: boolean;
  impersonated_by?: string;
};

export type LoginSession = {
  id: string;
  team_id: string;
  ip: string;
  user_agent: string;
  created_at: string;
  last_used_at: string;
  expires_at: string;
  current: boolean;
};

export type Team = { id: string; name: string; slug: string; is_byoc: boolean; created_at: string; role: Role };
export type Member = { user_id: string; name: string; email: string; role: Role; joined_at: string };
export type Invitation = {
  id: string;
  email: string;
  role: Role;
  invited_by?: string;
  created_at: string;
  expires_at: string;
  url?: string;
};

export type ApiKey = {
  id: string;
  team_id: string;
  name: string;
  key_prefix: string;
  created_by?: string;
  creator_email?: string;
  scopes?: string[];
  created_at: string;
  last_used?: string;
  expires_at?: string;
};

export type AuditEntry = {
  id: string;
  actor_type: "user" | "api_key" | "system";
  actor_id?: string;
  actor_name?: string;
  resource_type: string;
  resource_id?: string;
  action: string;
  scope: "team" | "admin";
  status: "success" | "info" | "warning" | "error";
  metadata?: Record<string, string>;
  created_at: string;
  seq?: number;
};
export type AuditPage = { items: AuditEntry[]; next_before?: string; next_before_id?: string };
export type AuditVerdict = { ok: boolean; entries: number; broken?: { seq: number; reason: string } };

export type QuotaLimits = {
  sandboxes?: number;
  vcpus?: number;
  memory_mb?: number;
  disk_mb?: number;
  creates_per_sec?: number;
  max_timeout_sec?: number;
};
export type QuotaState = {
  limits: QuotaLimits;
  used: { sandboxes: number; vcpus: number; memory_mb: number; disk_mb: number };
};

export type AdminUser = {
  id: string;
  email: string;
  name: string;
  is_admin: boolean;
  status: "inactive" | "active" | "disabled" | "deleted";
  mfa: boolean;
  created_at: string;
  teams_joined: number;
  teams_owned: number;
};
export type AdminTeam = {
  id: string;
  name: string;
  slug: string;
  is_byoc: boolean;
  created_at: string;
  deleted_at?: string;
  member_count: number;
  owner_name: string;
  owner_email: string;
  active_sandbox_count: number;
  channel_count: number;
};
type Paged = { total: number; page: number; per_page: number; total_pages: number };
export type AdminUsers = Paged & { users: AdminUser[] };
export type AdminTeams = Paged & { teams: AdminTeam[] };
export type InstallationSettings = {
  signup: "open" | "invite" | "closed";
  default_quotas: QuotaLimits;
  features: Record<string, boolean>;
};

export type AdminTemplate = {
  name: string;
  type: "base" | "snapshot";
  vcpus: number;
  memory_mb: number;
  size_bytes: number;
  team_id: string;
  platform: boolean;
  created_at: string;
};
export type AdminBuild = {
  id: string;
  template: string;
  status: string;
  current_step: number;
  total_steps: number;
  created_at: string;
  completed_at?: string;
  error?: { message: string };
};

export type Host = {
  id: string;
  type: "regular" | "byoc";
  team_name?: string;
  provider?: string;
  availability_zone?: string;
  arch?: string;
  cpu_cores?: number;
  memory_mb?: number;
  disk_gb?: number;
  address?: string;
  status: "pending" | "online" | "unreachable" | "draining" | "offline";
  mode: "active" | "cordoned" | "draining" | "maintenance";
  last_heartbeat_at?: string;
  load: { sandboxes: number; vcpus_reserved: number; memory_mb_reserved: number; memory_mb_capacity: number };
  created_at: string;
};
export type RegistrableHost = { host: Host; registration_token: string };
export type HostDeletion = { host: Host; sandbox_ids: string[] };

export type CapsuleStats = {
  range: string;
  current: { running_count: number; vcpus_reserved: number; memory_mb_reserved: number };
  peaks: { running_count: number; vcpus: number; memory_mb: number };
  series: { labels: string[]; running: number[]; vcpus: number[]; memory_mb: number[] };
};
export type CapsuleUsage = {
  from: string;
  to: string;
  points: { date: string; cpu_minutes: number; ram_mb_minutes: number }[];
};

export type Channel = {
  id: string;
  name: string;
  provider: string;
  events: string[];
  created_at: string;
  updated_at: string;
  secret?: string;
};
export type Delivery = {
  id: string;
  event: string;
  state: "due" | "delivered" | "dead";
  attempts: number;
  status?: number;
  error?: string;
  due_at?: string;
  created_at: string;
  delivered_at?: string;
};
