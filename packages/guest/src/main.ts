import { version } from "@wrenn/contract/core";
import { FlagError, type Flags, readFlags } from "./flags.ts";
import { start } from "./index.ts";
import { serveVolumes } from "./volumes/server.ts";
import { volumeServer } from "./volumes/start.ts";

const usage = `envd ${version}: the agent inside a Wrenn sandbox

  --port N       TCP port (49983)
  --host ADDR    address to listen on (0.0.0.0)
  --cmd COMMAND  shell command to start at once, under the tag init-cmd
  --isnotfc      this is not a virtual machine: leave clock, host name and entropy alone
  --version, --commit, --help
  volumes        as the only argument: serve this sandbox's volumes, as the agent has it done

Example, outside of a virtual machine:
  envd --isnotfc --host 127.0.0.1 --port 49983 & curl http://127.0.0.1:49983/metrics
`;

const isVolumeServer = Bun.argv[2] === volumeServer;
const values = isVolumeServer ? {} : flagsOrExit();

if (isVolumeServer) serveVolumes();
else if (values.help) process.stdout.write(usage);
else if (values.version) console.log(version);
else if (values.commit) console.log(process.env.WRENN_COMMIT || "unknown");
else {
  const agent = start({
    port: values.port,
    host: values.host,
    cmd: values.cmd,
    isNotVm: values.isnotfc,
  });
  console.log(JSON.stringify({ ready: true, address: agent.address }));
  const stop = () => void agent.stop().then(() => process.exit(0));
  process.on("SIGTERM", stop).on("SIGINT", stop);
}

function flagsOrExit(): Flags {
  try {
    return readFlags(Bun.argv.slice(2));
  } catch (thrown) {
    if (!(thrown instanceof FlagError)) throw thrown;
    console.error(thrown.message);
    process.exit(2);
  }
}
