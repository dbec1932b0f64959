"""Imports what Python kernels need, then forks one for each line on standard input and answers its process id."""

import gc
import importlib
import json
import os
import signal
import sys

IMPORTS = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "numpy",
    "pandas",
    "e2b_charts",
)


def become(connection_file: str, cwd: str) -> None:
    """The kernel; returns when it is told to end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.chdir(cwd)
    sys.argv = ["ipykernel_launcher.py", "-f", connection_file]
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=sys.argv[1:])


def main() -> None:
    sys.path.pop(0)  # the kernel's imports are not to find the modules beside this one
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is not looked at stays shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    kernels = []
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                become(**order)
            finally:
                os._exit(0)
        kernels.append(pid)
        print(json.dumps({"pid": pid}), flush=True)
    for pid in kernels:  # whoever asked for them is gone
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main()
