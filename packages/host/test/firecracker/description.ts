/**
 * What Firecracker's OpenAPI description (version 1.16) says of the requests that this project makes: for each method and
 * path the fields of its body, which of them are required, and what they may be. The program itself refuses more or less
 * than that too; here it is known before one runs.
 */
type Check = (value: unknown) => string | undefined;
type Fields = Readonly<Record<string, Check>>;

const text: Check = (value) => (typeof value === "string" ? undefined : "is no string");
const flag: Check = (value) => (typeof value === "boolean" ? undefined : "is no boolean");
const whole =
  (least: number, most = Number.MAX_SAFE_INTEGER): Check =>
  (value) =>
    Number.isInteger(value) && Number(value) >= least && Number(value) <= most
      ? undefined
      : `is no whole number from ${least}`;
const oneOf =
  (...known: string[]): Check =>
  (value) =>
    known.includes(value as string) ? undefined : `is none of ${known.join(", ")}`;
const list =
  (each: Check): Check =>
  (value) =>
    Array.isArray(value) ? value.map(each).find((said) => said) : "is no list";
const linkLocal: Check = (value) =>
  /^169\.254\.([1-9]\d?|1\d\d|2[0-4]\d|25[0-4])\.(\d{1,3})$/.test(String(value)) ? undefined : "is not link-local";

/** An object with these fields and no others. */
const object =
  (required: Fields, optional: Fields = {}): Check =>
  (value) => {
    if (typeof value !== "object" || value === null) return "is no object";
    const missing = Object.keys(required).find((name) => !(name in value));
    if (missing) return `lacks ${missing}`;
    for (const [name, field] of Object.entries(value)) {
      const check = required[name] ?? optional[name];
      const said = check ? check(field) : "is not known";
      if (said) return `${name} ${said}`;
    }
    return undefined;
  };

const bucket = object({ size: whole(0), refill_time: whole(0) }, { one_time_burst: whole(0) });
const limiter = object({}, { bandwidth: bucket, ops: bucket });
const backend = object({ backend_type: oneOf("File", "Uffd"), backend_path: text });
const override = object({ iface_id: text, host_dev_name: text });

const requests: Readonly<Record<string, Check>> = {
  "PUT /boot-source": object({ kernel_image_path: text }, { boot_args: text, initrd_path: text }),
  "PUT /machine-config": object(
    { vcpu_count: whole(1, 32), mem_size_mib: whole(1) },
    { smt: flag, track_dirty_pages: flag, huge_pages: oneOf("None", "2M") },
  ),
  "PUT /drives/rootfs": object(
    { drive_id: oneOf("rootfs"), is_root_device: flag },
    {
      ...{ path_on_host: text, is_read_only: flag, cache_type: oneOf("Unsafe", "Writeback") },
      ...{ io_engine: oneOf("Sync", "Async"), rate_limiter: limiter },
    },
  ),
  "PATCH /drives/rootfs": object({ drive_id: oneOf("rootfs") }, { path_on_host: text, rate_limiter: limiter }),
  "PUT /network-interfaces/eth0": object(
    { iface_id: oneOf("eth0"), host_dev_name: text },
    { guest_mac: text, mtu: whole(68, 65_535), rx_rate_limiter: limiter, tx_rate_limiter: limiter },
  ),
  "PATCH /network-interfaces/eth0": object(
    { iface_id: oneOf("eth0") },
    { rx_rate_limiter: limiter, tx_rate_limiter: limiter },
  ),
  "PUT /mmds/config": object(
    { network_interfaces: list(text) },
    { version: oneOf("V1", "V2"), ipv4_address: linkLocal, imds_compat: flag },
  ),
  "PUT /mmds": (value) => (typeof value === "object" ? undefined : "is no object"), // any content
  "PUT /entropy": object({}, { rate_limiter: limiter }),
  "PUT /actions": object({ action_type: oneOf("FlushMetrics", "InstanceStart", "SendCtrlAltDel") }),
  "PUT /snapshot/create": object(
    { mem_file_path: text, snapshot_path: text },
    { snapshot_type: oneOf("Full", "Diff") },
  ),
  "PUT /snapshot/load": object(
    { snapshot_path: text },
    { track_dirty_pages: flag, mem_backend: backend, resume_vm: flag, network_overrides: list(override) },
  ),
  "PATCH /vm": object({ state: oneOf("Paused", "Resumed") }),
  "GET /": (value) => (value === undefined ? undefined : "has a body"),
};

/** Why a request is not what the description says; `undefined` when it is. */
export function wrongWith(call: string, body: unknown): string | undefined {
  const check = requests[call];
  if (!check) return `${call} is not described`;
  const said = check(body);
  return said && `${call}: ${said}`;
}
