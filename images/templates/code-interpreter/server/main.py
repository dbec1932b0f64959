"""The code interpreter's HTTP service on port 49999, as clients of the E2B code interpreter speak it."""

import asyncio
import json
import os
import sys
from typing import AsyncIterator

from aiohttp import ClientError, ClientSession, ClientTimeout, web

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from kernels import HOME, Contexts, UnknownLanguage  # noqa: E402

PORT = 49999
AGENT = "http://127.0.0.1:49983"
# A client that is gone is noticed when something is written to it.
KEEPALIVE_SEC = 5
# Cells may carry data; the guest's memory is the limit that counts.
MAX_BODY = 256 * 1024**2

contexts = Contexts()
routes = web.RouteTableDef()


def refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": message, "message": message}, status=status)


@routes.get("/health")
async def health(_: web.Request) -> web.Response:
    return web.Response(text="OK")


@routes.post("/execute")
async def execute(request: web.Request) -> web.StreamResponse:
    body = await read(request)
    code, language, context_id = body.get("code"), body.get("language"), body.get("context_id")
    if not isinstance(code, str):
        return refusal(400, "The request has no code.")
    if language and context_id:
        return refusal(400, "Only one of context_id and language can be given.")
    try:
        context = contexts.get(context_id) if context_id else await contexts.usual(language or "python")
    except UnknownLanguage as unknown:
        return refusal(400, str(unknown))
    if context is None:
        return refusal(404, f"There is no context {context_id}.")
    sandbox_env = await variables.of(request.headers.get("X-Access-Token"))
    # A rehearsal, before the template is frozen or the machine is somebody's, is not to be seen by whoever gets it.
    events = context.execute(code, sandbox_env, body.get("env_vars") or {}, counts=not body.get("rehearsal"))
    return await stream(request, events)


async def stream(request: web.Request, events: AsyncIterator[dict]) -> web.StreamResponse:
    """One JSON document a line, as things happen; a word now and then, so that a client that is gone is noticed."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    await response.prepare(request)
    queue: asyncio.Queue = asyncio.Queue()

    async def run() -> None:
        async for event in events:
            queue.put_nowait(event)
        queue.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), KEEPALIVE_SEC)
            except TimeoutError:
                if task.done():
                    task.result()
                event = {"type": "keepalive"}
            if event is None:
                break
            await response.write(json.dumps(event).encode() + b"\n")
        await response.write_eof()
    finally:
        if not task.done():
            task.cancel()
    return response


class Variables:
    """What the sandbox was created with. Kernels were started before, in the template, and know nothing of it."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._known: dict = {}

    async def of(self, token: str | None) -> dict:
        """Asked for once: another sandbox, such as a fork of this one, has another token."""
        if token and token != self._token:
            try:
                self._known = await self._ask(token)
                self._token = token
            except (OSError, asyncio.TimeoutError, ClientError, ValueError):
                return {}
        return self._known

    async def _ask(self, token: str) -> dict:
        async with ClientSession(timeout=ClientTimeout(total=2)) as session:
            async with session.get(f"{AGENT}/envs", headers={"X-Access-Token": token}) as answer:
                answer.raise_for_status()
                found = await answer.json(content_type=None)
                return {name: value for name, value in found.items() if os.environ.get(name) != value}


variables = Variables()


@routes.post("/contexts")
async def create(request: web.Request) -> web.Response:
    body = await read(request)
    cwd = body.get("cwd") or HOME
    if not os.path.isdir(cwd):
        return refusal(400, f"There is no folder {cwd}.")
    try:
        context = await contexts.create(body.get("language") or "python", cwd)
    except UnknownLanguage as unknown:
        return refusal(400, str(unknown))
    return web.json_response(context.describe())


@routes.get("/contexts")
async def listed(_: web.Request) -> web.Response:
    return web.json_response([context.describe() for context in contexts.all()])


@routes.delete("/contexts/{id}")
async def remove(request: web.Request) -> web.Response:
    context = contexts.get(request.match_info["id"])
    if context is None:
        return refusal(404, "There is no such context.")
    await contexts.remove(context)
    return web.Response(status=204)


@routes.post("/contexts/{id}/restart")
async def restart(request: web.Request) -> web.Response:
    context = contexts.get(request.match_info["id"])
    if context is None:
        return refusal(404, "There is no such context.")
    await context.restart()
    return web.Response(status=204)


@routes.post("/contexts/{id}/interrupt")
async def interrupt(request: web.Request) -> web.Response:
    context = contexts.get(request.match_info["id"])
    if context is None:
        return refusal(404, "There is no such context.")
    await context.interrupt()
    return web.Response(status=204)


async def read(request: web.Request) -> dict:
    try:
        body = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="The body is not JSON.") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="The body is not a JSON object.")
    return body


async def main(languages: list[str]) -> None:
    # What every first cell would pay for is paid here, before the template is frozen.
    for language in languages:
        context = await contexts.usual(language)
        for code in (":" if language == "bash" else "1",) * 2:
            async for _ in context.execute(code, {}, {"WARM": "1"}, counts=False):
                pass
    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", PORT).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["python", "javascript", "typescript", "bash"]))
