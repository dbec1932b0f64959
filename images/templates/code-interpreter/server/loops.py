"""Languages without a Jupyter kernel: a program that evaluates one piece of code after the other, each in the world that
those before left. A kernel of theirs in Python would cost every sandbox 50 MB and an emulated guest ten seconds."""

import asyncio
import codecs
import json
import os
import secrets
import signal
import tempfile
from typing import AsyncIterator

KERNELS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernels")
# A line carries a whole value; the guest's memory is the limit that counts.
MAX_LINE = 256 * 1024**2
CHUNK = 64 * 1024


class Ended(Exception):
    """The program is gone, and with it what code had defined."""


class Loop:
    """What the loops have in common: one program, in a session of its own, so that an interrupt reaches it alone."""

    process: asyncio.subprocess.Process

    async def start(self, cwd: str) -> None:
        raise NotImplementedError

    def run(self, code: str) -> AsyncIterator[dict]:
        """Evaluates code; yields `stdout`, `stderr`, `result` and `error`. Throws Ended when the program ends in between."""
        raise NotImplementedError

    def interrupt(self) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGINT)

    async def stop(self) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


class NodeLoop(Loop):
    """JavaScript and TypeScript: `loop.mjs` tells what happens as one JSON document a line."""

    def __init__(self, language: str) -> None:
        self._language = language

    async def start(self, cwd: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *("node", os.path.join(KERNELS, "loop.mjs"), self._language),
            cwd=cwd,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=MAX_LINE,
        )

    async def run(self, code: str) -> AsyncIterator[dict]:
        self.process.stdin.write(json.dumps({"code": code}).encode() + b"\n")
        while True:
            line = await self.process.stdout.readline()
            if line == b"":
                raise Ended
            try:
                event = json.loads(line)
            except ValueError:  # a program that the code started wrote past Node
                event = {"type": "stdout", "text": line.decode(errors="replace")}
            if event["type"] == "done":
                return
            if event["type"] == "error":
                event = {"type": "error", "name": event["name"], "value": event["value"], "traceback": "\n".join(event["stack"])}
            yield event


# `$1` is where names of files come from; after each, a mark on both outputs says that all of its output is there.
BASH = r"""
trap : INT
while :; do
  IFS= read -r file <&"$1" || { [ $? -gt 128 ] && continue || break; } # an interrupt that found nothing under way
  . "$file"
  printf '\036%s:%s\036' "$2" "$?"
  printf '\036%s:\036' "$2" >&2
done
"""


class BashLoop(Loop):
    """Bash, which reads each piece of code from a file as if it stood in one script."""

    async def start(self, cwd: str) -> None:
        self._mark = f"\x1e{secrets.token_hex(8)}:"
        names, self._names = os.pipe()
        self.process = await asyncio.create_subprocess_exec(
            *("bash", "--noprofile", "--norc", "-c", BASH, "bash", str(names), self._mark[1:-1]),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=[names],
        )
        os.close(names)

    async def run(self, code: str) -> AsyncIterator[dict]:
        queue: asyncio.Queue = asyncio.Queue()
        with tempfile.NamedTemporaryFile("w", prefix="cell-", suffix=".sh") as file:
            file.write(code + "\n")
            file.flush()
            os.write(self._names, f"{file.name}\n".encode())
            readers = [
                asyncio.create_task(self._read(name, getattr(self.process, name), queue)) for name in ("stdout", "stderr")
            ]
            try:
                for _ in readers:
                    while (event := await queue.get())["type"] != "end":
                        yield event
                    if event["status"] is None:
                        raise Ended
                    if event["status"] not in ("", "0"):
                        yield {"type": "error", "name": "ExitStatus", "value": event["status"], "traceback": ""}
            finally:
                for reader in readers:
                    reader.cancel()

    async def _read(self, name: str, stream: asyncio.StreamReader, queue: asyncio.Queue) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        held = ""
        while True:
            piece = await stream.read(CHUNK)
            held += decoder.decode(piece)
            at = held.find(self._mark)
            end = held.find("\x1e", at + 1) if at >= 0 else -1
            # What may be the begin of a mark waits for the rest of it.
            safe = at if at >= 0 else held.rfind("\x1e") if "\x1e" in held[-len(self._mark) :] else len(held)
            if held[:safe]:
                queue.put_nowait({"type": name, "text": held[:safe]})
            held = held[safe:]
            if end >= 0 or piece == b"":
                status = held[len(self._mark) : held.find("\x1e", 1)] if end >= 0 else None
                queue.put_nowait({"type": "end", "status": status})
                return

    async def stop(self) -> None:
        os.close(self._names)
        await super().stop()
