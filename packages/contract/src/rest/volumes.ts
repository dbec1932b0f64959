import { z } from "zod";

/** Most volumes that one sandbox mounts. */
const mostMounts = 16;

/** Folders of a guest that its kernel and agent live by; nothing is mounted over them. */
const kept = ["/", "/proc", "/sys", "/dev", "/run", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/tmp"];

/** Why a volume cannot be mounted at a path; `undefined` when it can. */
export function wrongMountPath(path: string): string | undefined {
  if (!path.startsWith("/") || path.includes("\0")) return "a mount path begins with /";
  const names = path.slice(1).split("/");
  if (names.some((name) => name === "." || name === "..")) return "a mount path has no . or .. in it";
  const plain = plainMountPath(path);
  const isKept = kept.includes(plain) || /^\/(proc|sys|dev|run\/wrenn|usr\/local\/lib\/wrenn)\//.test(plain);
  return isKept ? `nothing can be mounted at ${plain}, which the sandbox lives by` : undefined;
}

/** The same path without doubled slashes and one at its end. */
export const plainMountPath = (path: string): string => `/${path.split("/").filter(Boolean).join("/")}`;

const Path = z
  .string()
  .min(1)
  .max(4096)
  .superRefine((path, context) => {
    const message = wrongMountPath(path);
    if (message) context.addIssue({ code: "custom", message });
  });

/** Volumes of a new sandbox, by the path at which its programs find them. */
export const Mounts = z
  .array(z.object({ name: z.string().min(1).max(128).meta({ description: "Of a volume of the team." }), path: Path }))
  .max(mostMounts)
  .refine(
    (mounts) => new Set(mounts.map(({ path }) => plainMountPath(path))).size === mounts.length,
    "two mounts at one path",
  );
export type Mounts = z.infer<typeof Mounts>;

/** A volume's name: letters, digits, `_` and `-`. */
export const VolumeName = z
  .string()
  .max(128)
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9_-]*$/, "letters, digits, `_` and `-`");

/** Body of `POST /v1/volumes`. */
export const CreateVolume = z.object({ name: VolumeName }).meta({ id: "CreateVolume" });

/** Files of a team that outlive its sandboxes, mounted in any number of them. */
export const Volume = z
  .object({
    id: z.string().meta({ example: "vol_0abcdefghijklmnopqrstuvwx" }),
    name: z.string(),
    created_at: z.string(),
    host_id: z.string().meta({ description: "Where its files are, and the sandboxes that mount it." }),
  })
  .meta({ id: "Volume" });
export type Volume = z.infer<typeof Volume>;
