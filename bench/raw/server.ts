/**
 * The least a server in this runtime can do: what the guest agent's figures are held against in the same run, so that a
 * slow machine can be told from a slow program. Usage: bun raw/server.ts PORT FILE
 */
const [port = "0", file = ""] = process.argv.slice(2);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  maxRequestBodySize: Number.MAX_SAFE_INTEGER,
  routes: {
    "/health": () => new Response("ok"),
    "/exec": async () => {
      const child = Bun.spawn(["/bin/true"], { stdio: ["ignore", "pipe", "pipe"] });
      return new Response(`${await child.exited}`);
    },
    "/file": () => new Response(Bun.file(file)),
    "/upload": async (request) => {
      let bytes = 0;
      for await (const chunk of request.body ?? []) bytes += chunk.byteLength;
      return new Response(`${bytes}`);
    },
    "/stdout": (request) => {
      const url = new URL(request.url);
      return new Response(frames(Number(url.searchParams.get("kib")), url.searchParams.get("as") === "json"));
    },
  },
});
console.log(server.port);

/** A process's output as frames of the Connect protocol: base64 in JSON, or bytes as they are. */
function frames(kib: number, asJson: boolean): ReadableStream<Uint8Array> {
  const args = ["if=/dev/zero", "bs=65536", `count=${kib / 64}`, "status=none"];
  const child = Bun.spawn(["dd", ...args], { stdio: ["ignore", "pipe", "ignore"] });
  const reader = child.stdout.getReader();
  return new ReadableStream({
    type: "direct",
    async pull(controller: { write(chunk: Uint8Array): unknown; flush(): Promise<unknown>; close(): void }) {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        controller.write(asJson ? jsonFrame(value) : frame(value));
        await controller.flush();
      }
      controller.close();
    },
  } as unknown as UnderlyingDefaultSource<Uint8Array>);
}

function jsonFrame(bytes: Uint8Array): Uint8Array {
  return frame(Buffer.from(`{"event":{"data":{"stdout":"${Buffer.from(bytes).toString("base64")}"}}}`));
}

function frame(message: Uint8Array): Uint8Array {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}
