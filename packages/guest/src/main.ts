import { parseArgs } from "node:util";
import { version } from "@wrenn/contract";
import { start } from "./index.ts";

const usage = `envd ${version}: the agent inside a Wrenn sandbox

  --port N       TCP port (49983)
  --host ADDR    address to listen on (0.0.0.0)
  --cmd COMMAND  shell command to start at once, under the tag init-cmd
  --isnotfc      this is not a virtual machine: leave clock, host name and entropy alone
  --version, --commit, --help
`;

const { values } = parseArgs({
  options: {
    port: { type: "string" },
    host: { type: "string" },
    cmd: { type: "string" },
    isnotfc: { type: "boolean" },
    version: { type: "boolean" },
    commit: { type: "boolean" },
    help: { type: "boolean" },
  },
});

if (values.help) process.stdout.write(usage);
else if (values.version) console.log(version);
else if (values.commit) console.log(process.env.WRENN_COMMIT || "unknown");
else {
  const agent = start({
    port: values.port === undefined ? undefined : Number(values.port),
    host: values.host,
    cmd: values.cmd,
    isNotVm: values.isnotfc,
  });
  console.log(JSON.stringify({ ready: true, address: agent.address }));
  const stop = () => void agent.stop().then(() => process.exit(0));
  process.on("SIGTERM", stop).on("SIGINT", stop);
}
