"""Contexts: each keeps what code before has defined."""

import asyncio
import os
import secrets
import signal
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import AsyncIterator

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.manager import AsyncKernelManager

from forks import Fork, Forks
from loops import BashLoop, Ended, Loop, NodeLoop
from messages import event_of, shown
from variables import SET, UNSET

# Names of languages.
LANGUAGES = ("bash", "javascript", "python", "r", "typescript")
SHORT = {"js": "javascript", "ts": "typescript", "py": "python", "sh": "bash"}
# Where code runs: the folder of the user whom commands run as, though code runs as root, as in E2B's template.
HOME = "/home/user"
# A kernel that starts in an emulated guest on a busy machine was seen to need three minutes.
READY_SEC = 15 * 60
# How often a silent kernel is asked whether it lives.
ALIVE_SEC = 1.0
# How long code that is interrupted may take to end; its loop is started anew after that.
INTERRUPT_SEC = 2


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

    def run(self, code: str, silent: bool = False, counts: bool = True) -> AsyncIterator[dict]:
        """Runs code; yields the protocol's messages, `end_of_execution` or `unexpected_end_of_execution` last.

        Interrupts the code when nobody listens any more. Silent code tells nothing, and only what counts is numbered."""
        raise NotImplementedError

    async def execute(self, code: str, sandbox_env: dict, own_env: dict, counts: bool = True) -> AsyncIterator[dict]:
        """Runs code; yields what it does as the protocol's messages. The sandbox's variables are given once and stay;
        those of this execution alone are taken back."""
        async with self.lock:
            changed = {name: value for name, value in sandbox_env.items() if self.env.get(name) != value}
            if changed or own_env:
                await self._silently(SET[self.language]({**changed, **own_env}))
                self.env.update(changed)
            try:
                async with aclosing(self.run(code, counts=counts)) as messages:
                    async for message in messages:
                        yield message
            finally:
                if own_env:
                    await self._silently(self._take_back(own_env))

    def _take_back(self, own_env: dict) -> str:
        kept = {name: self.env[name] for name in own_env if name in self.env}
        gone = {name: value for name, value in own_env.items() if name not in kept}
        parts = ([UNSET[self.language](gone)] if gone else []) + ([SET[self.language](kept)] if kept else [])
        return "\n".join(parts)

    async def _silently(self, code: str) -> None:
        async for _ in self.run(code, silent=True):
            pass


@dataclass
class KernelContext(Context):
    """A Jupyter kernel."""

    client: AsyncKernelClient | None = None

    async def launch(self) -> AsyncKernelClient:
        """Starts the kernel's process."""
        raise NotImplementedError

    async def is_alive(self) -> bool:
        raise NotImplementedError

    async def kill(self) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        self.client = await self.launch()
        # Without its heartbeats: in an emulated guest of a busy machine they fail while the kernel is well.
        self.client.start_channels(hb=False)
        ready = asyncio.create_task(self.client.wait_for_ready(timeout=READY_SEC))
        while not (await asyncio.wait({ready}, timeout=ALIVE_SEC))[0]:
            if not await self.is_alive():
                ready.cancel()
                raise RuntimeError("the kernel ended when it was started")
        ready.result()
        self.env = {}

    async def restart(self) -> None:
        await self.shut_down()
        await self.start()

    async def shut_down(self) -> None:
        self.client.stop_channels()
        await self.kill()

    async def run(self, code: str, silent: bool = False, counts: bool = True) -> AsyncIterator[dict]:
        numbered = counts and not silent
        request = self.client.execute(
            code, silent=silent, store_history=numbered, allow_stdin=False, stop_on_error=False
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
        client = self.client
        while True:
            try:
                message = await client.get_iopub_msg(timeout=ALIVE_SEC)
            except Exception:  # nothing was said for a while
                is_same = self.client is client  # or somebody has restarted it meanwhile
                if is_same and await self.is_alive():
                    continue
                if is_same:
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


forks = Forks()


@dataclass
class PythonContext(KernelContext):
    """A fork of the process that has everything imported."""

    process: Fork | None = None
    file: str = ""

    async def launch(self) -> AsyncKernelClient:
        self.file, _ = write_connection_file(f"/tmp/kernel-{secrets.token_hex(8)}.json")
        client = AsyncKernelClient()
        client.load_connection_file(self.file)
        self.process = await forks.fork(self.file, self.cwd)
        return client

    async def is_alive(self) -> bool:
        return self.process.is_alive()

    async def interrupt(self) -> None:
        self.process.send(signal.SIGINT)

    async def kill(self) -> None:
        self.process.send(signal.SIGKILL)
        self.process.close()
        if os.path.exists(self.file):
            os.unlink(self.file)


@dataclass
class RContext(KernelContext):
    """R, whose kernel is a program of its own."""

    manager: AsyncKernelManager | None = None

    async def launch(self) -> AsyncKernelClient:
        self.manager = AsyncKernelManager(kernel_name="ir")
        await self.manager.start_kernel(cwd=self.cwd, env=dict(os.environ))
        return self.manager.client()

    async def is_alive(self) -> bool:
        return await self.manager.is_alive()

    async def interrupt(self) -> None:
        if await self.is_alive():
            await self.manager.interrupt_kernel()

    async def kill(self) -> None:
        await self.manager.shutdown_kernel(now=True)


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

    async def run(self, code: str, silent: bool = False, counts: bool = True) -> AsyncIterator[dict]:
        if not silent:
            self.count += 1 if counts else 0
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


KINDS = {"python": PythonContext, "r": RContext}


class Contexts:
    """Every context; one of each usual language is there from the start."""

    def __init__(self) -> None:
        self._by_id: dict[str, Context] = {}
        self._usual: dict[str, Context] = {}
        self._lock = asyncio.Lock()

    async def create(self, language: str = "python", cwd: str = HOME) -> Context:
        language = SHORT.get(language.lower(), language.lower())
        if language not in LANGUAGES:
            raise UnknownLanguage(f"There is no kernel for {language}: use one of {', '.join(LANGUAGES)}.")
        context = KINDS.get(language, LoopContext)(secrets.token_hex(16), language, cwd)
        await context.start()
        self._by_id[context.id] = context
        return context

    async def usual(self, language: str) -> Context:
        """The context of a language that is used when none is named."""
        language = SHORT.get(language.lower(), language.lower())
        async with self._lock:  # two first executions at once share one
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
