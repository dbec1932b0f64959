"""Contexts: each keeps what code before has defined."""

import asyncio
import json
import os
import secrets
import shlex
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import AsyncIterator

from jupyter_client.manager import AsyncKernelManager

from loops import BashLoop, Ended, Loop, NodeLoop

# Names of languages.
LANGUAGES = ("bash", "javascript", "python", "typescript")
SHORT = {"js": "javascript", "ts": "typescript", "py": "python", "sh": "bash"}
HOME = os.environ.get("HOME", "/home/user")
# A kernel that starts in an emulated guest on a busy machine was seen to need three minutes.
READY_SEC = 15 * 60
# How often a silent kernel is asked whether it lives.
ALIVE_SEC = 1.0
# How long code that is interrupted may take to end; its loop is started anew after that.
INTERRUPT_SEC = 2

# How each language gets variables, and loses those of one execution afterwards.
SET_JS = lambda env: "Object.assign(process.env, " + json.dumps(env) + "); undefined"  # noqa: E731
UNSET_JS = lambda env: "for (const name of " + json.dumps(list(env)) + ") delete process.env[name]; undefined"  # noqa: E731
SET_ENV = {
    "python": lambda env: f"import os as _os; _os.environ.update({env!r}); del _os",
    "javascript": SET_JS,
    "typescript": SET_JS,
    "bash": lambda env: "\n".join(f"export {name}={shlex.quote(value)}" for name, value in env.items()),
}
UNSET_ENV = {
    "python": lambda env: f"import os as _os; [_os.environ.pop(_n, None) for _n in {list(env)!r}]; del _os",
    "javascript": UNSET_JS,
    "typescript": UNSET_JS,
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
    """One kernel or loop. Executions of a context wait for each other."""

    id: str
    language: str
    cwd: str
    # What the kernel has of the sandbox's variables.
    env: dict = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def describe(self) -> dict:
        return {"id": self.id, "language": self.language, "cwd": self.cwd}

    async def start(self) -> None:
        raise NotImplementedError

    async def interrupt(self) -> None:
        raise NotImplementedError

    async def restart(self) -> None:
        raise NotImplementedError

    async def shut_down(self) -> None:
        raise NotImplementedError

    def run(self, code: str, silent: bool = False) -> AsyncIterator[dict]:
        """Runs code; yields the protocol's messages, `end_of_execution` or `unexpected_end_of_execution` last.

        Interrupts the code when nobody listens any more."""
        raise NotImplementedError

    async def execute(self, code: str, sandbox_env: dict, own_env: dict) -> AsyncIterator[dict]:
        """Runs code; yields what it does as the protocol's messages. The sandbox's variables are given once and stay; those of this execution alone are taken back."""
        async with self.lock:
            changed = {name: value for name, value in sandbox_env.items() if self.env.get(name) != value}
            if changed or own_env:
                await self._silently(SET_ENV[self.language]({**changed, **own_env}))
                self.env.update(changed)
            try:
                async with aclosing(self.run(code)) as messages:
                    async for message in messages:
                        yield message
            finally:
                if own_env:
                    await self._silently(self._take_back(own_env))

    def _take_back(self, own_env: dict) -> str:
        kept = {name: self.env[name] for name in own_env if name in self.env}
        gone = {name: value for name, value in own_env.items() if name not in kept}
        parts = ([UNSET_ENV[self.language](gone)] if gone else []) + ([SET_ENV[self.language](kept)] if kept else [])
        return "\n".join(parts)

    async def _silently(self, code: str) -> None:
        async for _ in self.run(code, silent=True):
            pass


@dataclass
class KernelContext(Context):
    """A Jupyter kernel: Python."""

    manager: AsyncKernelManager = field(default_factory=lambda: AsyncKernelManager(kernel_name="python3"))
    client: object = None

    async def start(self) -> None:
        await self.manager.start_kernel(cwd=self.cwd, env=dict(os.environ))
        await self._connect()

    async def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=READY_SEC)
        self.env = {}

    async def interrupt(self) -> None:
        if await self.manager.is_alive():
            await self.manager.interrupt_kernel()

    async def restart(self) -> None:
        self.client.stop_channels()
        await self.manager.restart_kernel(now=True)
        await self._connect()

    async def shut_down(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)

    async def run(self, code: str, silent: bool = False) -> AsyncIterator[dict]:
        request = self.client.execute(
            code, silent=silent, store_history=not silent, allow_stdin=False, stop_on_error=False
        )
        is_over = False
        try:
            async for message in self._messages(request):
                yield message
            is_over = True
        finally:
            if not is_over:
                await self.interrupt()

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


@dataclass
class LoopContext(Context):
    """A loop: every other language."""

    loop: Loop | None = None
    count: int = 0

    async def start(self) -> None:
        self.loop = BashLoop() if self.language == "bash" else NodeLoop(self.language)
        await self.loop.start(self.cwd)
        self.env = {}
        self.count = 0

    async def interrupt(self) -> None:
        self.loop.interrupt()

    async def restart(self) -> None:
        await self.shut_down()
        await self.start()

    async def shut_down(self) -> None:
        await self.loop.stop()

    async def run(self, code: str, silent: bool = False) -> AsyncIterator[dict]:
        if not silent:
            self.count += 1
            yield {"type": "number_of_executions", "execution_count": self.count}
        queue: asyncio.Queue = asyncio.Queue()
        # A task of its own, which is not cancelled with its listener: what the loop still says must be read to its end.
        task = asyncio.create_task(self._read(code, queue))
        try:
            while (event := await queue.get())["type"] not in ("end_of_execution", "unexpected_end_of_execution"):
                if not silent:
                    yield shown(event)
            if event["type"] == "unexpected_end_of_execution":
                await self.restart()
            yield event
        finally:
            if not task.done():
                await self.interrupt()
                _, late = await asyncio.wait({task}, timeout=INTERRUPT_SEC)
                if late:
                    await self.restart()

    async def _read(self, code: str, queue: asyncio.Queue) -> None:
        try:
            async for event in self.loop.run(code):
                queue.put_nowait(event)
            queue.put_nowait({"type": "end_of_execution"})
        except Ended:
            queue.put_nowait({"type": "unexpected_end_of_execution"})


def shown(event: dict) -> dict:
    """What a loop tells as the protocol's message."""
    if event["type"] == "result":
        return {"type": "result", **result_of(event["data"]), "is_main_result": True}
    if event["type"] in ("stdout", "stderr"):
        return {**event, "timestamp": time.time_ns()}
    return event


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
        language = SHORT.get(language.lower(), language.lower())
        if language not in LANGUAGES:
            raise UnknownLanguage(f"There is no kernel for {language}: use one of {', '.join(LANGUAGES)}.")
        kind = KernelContext if language == "python" else LoopContext
        context = kind(secrets.token_hex(16), language, cwd)
        await context.start()
        self._by_id[context.id] = context
        return context

    async def usual(self, language: str) -> Context:
        """The context of a language that is used when none is named."""
        language = SHORT.get(language.lower(), language.lower())
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
