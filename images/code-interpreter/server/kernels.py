"""Jupyter kernels as contexts: each keeps what code before has defined."""

import asyncio
import json
import os
import secrets
import shlex
import time
from dataclasses import dataclass, field
from typing import AsyncIterator

from jupyter_client.manager import AsyncKernelManager

# Names of languages, and the kernels that run them.
KERNELS = {"python": "python3", "javascript": "javascript", "js": "javascript", "bash": "bash"}
CANONICAL = {"js": "javascript"}
HOME = os.environ.get("HOME", "/home/user")
# A kernel that starts in an emulated guest on a busy machine.
READY_SEC = 120
# How often a silent kernel is asked whether it lives.
ALIVE_SEC = 1.0

# How each language gets variables for one execution, and loses them afterwards.
SET_ENV = {
    "python": lambda env: f"import os as _os; _os.environ.update({env!r}); del _os",
    "javascript": lambda env: "Object.assign(process.env, " + json.dumps(env) + "); undefined",
    "bash": lambda env: "\n".join(f"export {name}={shlex.quote(value)}" for name, value in env.items()),
}
UNSET_ENV = {
    "python": lambda env: f"import os as _os; [_os.environ.pop(_n, None) for _n in {list(env)!r}]; del _os",
    "javascript": lambda env: "for (const name of " + json.dumps(list(env)) + ") delete process.env[name]; undefined",
    "bash": lambda env: "\n".join(f"unset {name}" for name in env),
}

# Media types and the fields of a result that carry them.
FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}


class UnknownLanguage(Exception):
    """There is no kernel for a language."""


@dataclass
class Context:
    """One kernel. Executions of a context wait for each other."""

    id: str
    language: str
    cwd: str
    manager: AsyncKernelManager
    client: object = None
    env: dict = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def describe(self) -> dict:
        return {"id": self.id, "language": self.language, "cwd": self.cwd}

    async def start(self) -> None:
        await self.manager.start_kernel(cwd=self.cwd, env=dict(os.environ))
        await self.connect()

    async def connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=READY_SEC)

    async def restart(self) -> None:
        self.client.stop_channels()
        await self.manager.restart_kernel(now=True)
        await self.connect()

    async def shut_down(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)

    async def execute(self, code: str, env: dict) -> AsyncIterator[dict]:
        """Runs code; yields what it does as the protocol's messages. Interrupts the kernel when nobody listens any more."""
        async with self.lock:
            if env:
                await self._silently(SET_ENV[self.language](env))
            try:
                async for message in self._run(code):
                    yield message
            finally:
                if env:
                    await self._silently(UNSET_ENV[self.language](env))

    async def _run(self, code: str) -> AsyncIterator[dict]:
        request = self.client.execute(code, store_history=True, allow_stdin=False, stop_on_error=False)
        is_over = False
        try:
            async for message in self._messages(request):
                yield message
            is_over = True
        finally:
            if not is_over and await self.manager.is_alive():
                await self.manager.interrupt_kernel()

    async def _messages(self, request: str) -> AsyncIterator[dict]:
        while True:
            try:
                message = await self.client.get_iopub_msg(timeout=ALIVE_SEC)
            except Exception:  # nothing was said for a while
                if await self.manager.is_alive():
                    continue
                await self.restart()
                yield {"type": "unexpected_end_of_execution"}
                return
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                yield {"type": "end_of_execution"}
                return
            event = event_of(kind, content)
            if event is not None:
                yield event

    async def _silently(self, code: str) -> None:
        request = self.client.execute(code, silent=True, store_history=False, allow_stdin=False)
        async for _ in self._messages(request):
            pass


def event_of(kind: str, content: dict) -> dict | None:
    """A message of the Jupyter protocol as one of ours; None for what nobody reads."""
    if kind == "stream":
        return {"type": content["name"], "text": content["text"], "timestamp": time.time_ns()}
    if kind in ("display_data", "execute_result"):
        return {"type": "result", **result_of(content["data"]), "is_main_result": kind == "execute_result"}
    if kind == "error":
        traceback = "\n".join(content["traceback"])
        return {"type": "error", "name": content["ename"], "value": content["evalue"], "traceback": traceback}
    if kind == "execute_input":
        return {"type": "number_of_executions", "execution_count": content["execution_count"]}
    return None


def result_of(data: dict) -> dict:
    """The representations of one value by field; those without a field of their own are `extra`."""
    result: dict = {}
    extra = {}
    for media, value in data.items():
        name = FIELDS.get(media)
        if name is None:
            extra[media] = value
        else:
            result[name] = quoteless(value) if name == "text" else value
    if extra:
        result["extra"] = extra
    return result


def quoteless(text: str) -> str:
    """A text's own characters: the protocol shows `'a'` as `a`."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


class Contexts:
    """Every context; one of each usual language is there from the start."""

    def __init__(self) -> None:
        self._by_id: dict[str, Context] = {}
        self._usual: dict[str, Context] = {}

    async def create(self, language: str = "python", cwd: str = HOME) -> Context:
        language = CANONICAL.get(language.lower(), language.lower())
        if language not in KERNELS:
            raise UnknownLanguage(f"There is no kernel for {language}: use one of {', '.join(sorted(set(KERNELS)))}.")
        manager = AsyncKernelManager(kernel_name=KERNELS[language])
        context = Context(secrets.token_hex(16), language, cwd, manager)
        await context.start()
        self._by_id[context.id] = context
        return context

    async def usual(self, language: str) -> Context:
        """The context of a language that is used when none is named."""
        language = CANONICAL.get(language.lower(), language.lower())
        if language not in self._usual:
            self._usual[language] = await self.create(language)
        return self._usual[language]

    def get(self, context_id: str) -> Context | None:
        return self._by_id.get(context_id)

    def all(self) -> list[Context]:
        return list(self._by_id.values())

    async def remove(self, context: Context) -> None:
        self._by_id.pop(context.id, None)
        self._usual = {name: usual for name, usual in self._usual.items() if usual is not context}
        await context.shut_down()
