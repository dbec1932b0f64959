"""Python kernels as forks of one process that has everything imported. A kernel of its own program takes an emulated guest
ten seconds to load; a fork is there in a tenth of that and shares the memory of what was loaded."""

import asyncio
import json
import os
import select
import signal
import site
import sys

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")


class Fork:
    """A kernel's process. It is a child of the zygote's, so it is held by a file descriptor: numbers are used again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._fd = None

    def is_alive(self) -> bool:
        return self._fd is not None and not select.select([self._fd], [], [], 0)[0]

    def send(self, number: int) -> None:
        """To the kernel, and with SIGKILL to what it started as well."""
        if not self.is_alive():
            return
        if number == signal.SIGKILL:
            os.killpg(self._pid, number)
        else:
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Forks:
    """The process that is forked; started anew when it is gone or what it has loaded is out of date."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._seen: list = []
        self._lock = asyncio.Lock()

    async def fork(self, connection_file: str, cwd: str) -> Fork:
        async with self._lock:
            if self._process is None or self._process.returncode is not None or self._seen != installed():
                await self._start()
            order = json.dumps({"connection_file": connection_file, "cwd": cwd})
            self._process.stdin.write(order.encode() + b"\n")
            answer = await self._process.stdout.readline()
            if answer == b"":
                raise RuntimeError("the process that kernels are forked from has ended")
            return Fork(json.loads(answer)["pid"])

    async def _start(self) -> None:
        self._seen = installed()
        # The one before goes on until its kernels are gone.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, PROGRAM), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )


def installed() -> list:
    """Changes when packages are installed or removed: a kernel that is started after that must see the new ones."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return [os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0 for folder in folders]
