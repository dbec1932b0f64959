import { WrennError } from "@wrenn/contract/core";
import { processes as wire } from "@wrenn/contract/wire";
import { type Call, clientStream, type Method, serverStream, unary } from "../connect/method.ts";
import type { Identity } from "../identity/state.ts";
import { type CommandRequest, prepare } from "./command.ts";
import { binaryFrames, jsonFrames } from "./frames.ts";
import { type GuestProcess, limit, PipedProcess } from "./process.ts";
import { TerminalProcess } from "./pty.ts";
import type { Registry, Selector } from "./registry.ts";
import { ProcessStream } from "./stream.ts";

/** A process without a terminal reports this size as impossible; so do we. */
const maxTerminalSide = 65_535;

const selectorOf = (selector: wire.ProcessSelector | undefined): Selector => {
  if (selector?.selector.case === "pid") return { pid: selector.selector.value };
  if (selector?.selector.case === "tag") return { tag: selector.selector.value };
  throw new WrennError("invalid_request", "the request names no process", { remedy: "Give a pid or a tag." });
};

const encoderOf = (call: Call) => (call.json ? jsonFrames : binaryFrames);

function sizeOf(pty: wire.PTY): { cols: number; rows: number } {
  const { cols = 80, rows = 24 } = pty.size ?? {};
  if (cols < 1 || rows < 1 || cols > maxTerminalSide || rows > maxTerminalSide)
    throw new WrennError("invalid_request", `a terminal of ${cols} x ${rows} characters is impossible`, {
      remedy: `Give both sides a value from 1 to ${maxTerminalSide}.`,
    });
  return { cols, rows };
}

/** Starts what `request` describes, as `call`'s user. */
function start(request: wire.StartRequest, call: Call, identity: Identity): GuestProcess {
  const config = request.process;
  if (!config) throw new WrennError("invalid_request", "the request names no process", { remedy: "Give process.cmd." });
  const asked: CommandRequest = { cmd: config.cmd, args: config.args, envs: config.envs, cwd: config.cwd ?? "" };
  const size = request.pty && sizeOf(request.pty);
  const command = prepare(asked, {
    user: call.user,
    envs: identity.envs,
    defaultWorkdir: identity.defaultWorkdir,
  });
  const { tag, stdin = true } = request;
  if (size) return new TerminalProcess(command, { request: asked, tag, size });
  return new PipedProcess(command, { request: asked, tag, stdin });
}

function write(process: GuestProcess, input: wire.ProcessInput | undefined): Promise<void> {
  if (input?.input.case === "stdin") return process.writeStdin(input.input.value);
  if (input?.input.case === "pty") return process.writePty(input.input.value);
  throw new WrennError("invalid_request", "the request holds no input", { remedy: "Give stdin or pty." });
}

function info({ pid, tag, request }: GuestProcess) {
  const { cmd, args, envs, cwd } = request;
  return {
    pid,
    ...(tag === undefined ? {} : { tag }),
    config: { cmd, args: [...args], envs: { ...envs }, ...(cwd ? { cwd } : {}) },
  };
}

async function streamInput(requests: AsyncIterable<wire.StreamInputRequest>, registry: Registry): Promise<object> {
  let process: GuestProcess | undefined;
  for await (const { event } of requests) {
    if (event.case === "start") process = registry.live(selectorOf(event.value.process));
    else if (event.case === "data") {
      if (!process)
        throw new WrennError("invalid_request", "input came before the start event", {
          remedy: "Send start first: it names the process.",
        });
      await write(process, event.value.input);
    } else if (event.case === undefined)
      throw new WrennError("invalid_request", "a message of the stream holds no event", {
        remedy: "Send start, data or keepalive.",
      });
  }
  return {};
}

/** The methods of `process.Process`, by name. */
export function processMethods(registry: Registry, identity: Identity): Record<string, Method> {
  return {
    List: unary(wire.ListRequestSchema, wire.ListResponseSchema, () => ({ processes: registry.list().map(info) })),
    Start: serverStream(wire.StartRequestSchema, (request, call) => {
      const process = start(request, call, identity);
      registry.add(process);
      if (call.timeoutMs !== undefined) limit(process, call.timeoutMs);
      return new ProcessStream(process, encoderOf(call), true);
    }),
    Connect: serverStream(wire.ConnectRequestSchema, (request, call) => {
      return new ProcessStream(registry.recent(selectorOf(request.process)), encoderOf(call), false);
    }),
    Update: unary(wire.UpdateRequestSchema, wire.UpdateResponseSchema, (request) => {
      const process = registry.live(selectorOf(request.process));
      if (request.pty) {
        const { cols, rows } = sizeOf(request.pty);
        process.resize(cols, rows);
      }
      return {};
    }),
    SendInput: unary(wire.SendInputRequestSchema, wire.SendInputResponseSchema, async (request) => {
      await write(registry.live(selectorOf(request.process)), request.input);
      return {};
    }),
    StreamInput: clientStream(wire.StreamInputRequestSchema, wire.StreamInputResponseSchema, (requests) =>
      streamInput(requests, registry),
    ),
    SendSignal: unary(wire.SendSignalRequestSchema, wire.SendSignalResponseSchema, (request) => {
      const process = registry.live(selectorOf(request.process));
      if (request.signal !== wire.Signal.SIGKILL && request.signal !== wire.Signal.SIGTERM)
        throw new WrennError("unimplemented", `signal ${request.signal} cannot be sent`, {
          remedy: "Send SIGTERM or SIGKILL.",
        });
      process.signal(request.signal);
      return {};
    }),
    CloseStdin: unary(wire.CloseStdinRequestSchema, wire.CloseStdinResponseSchema, async (request) => {
      await registry.live(selectorOf(request.process)).closeStdin();
      return {};
    }),
  };
}
