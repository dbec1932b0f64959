// How a program for E2B sees the end of a sandbox in the middle of a command; run by Node, whose errors the SDK reads.
import { Sandbox } from "e2b";

const sandbox = await Sandbox.create("minimal");
const command = await sandbox.commands.run("sleep 60", { background: true, timeoutMs: 0 });
await sandbox.kill();
const ended = await command.wait().catch((thrown) => thrown);
console.log(`${ended.name}: ${ended.message}`);
