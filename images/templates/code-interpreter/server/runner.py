"""Whether the Jupyter server on port 8888 has its kernel at work; starts it when there is none. Exits with 0 then."""

import json
import sys
from urllib.request import Request, urlopen

KERNELS = "http://127.0.0.1:8888/api/kernels"
# The kernel that clients of the code runner look for.
NAME = "wrenn"
# One look; the next one follows.
ANSWER_SEC = 10


def main() -> int:
    try:
        with urlopen(KERNELS, timeout=5) as answer:
            kernels = [kernel for kernel in json.load(answer) if kernel["name"] == NAME]
    except OSError:
        return 1  # the server does not listen yet
    if not kernels:
        urlopen(Request(KERNELS, json.dumps({"name": NAME}).encode(), {"Content-Type": "application/json"}), timeout=60)
        return 1
    return 0 if answers(kernels[0]["id"]) else 1


def answers(kernel_id: str) -> bool:
    """Asks the kernel itself: the server says "starting" until the first client has come."""
    from jupyter_client.blocking import BlockingKernelClient
    from jupyter_core.paths import jupyter_runtime_dir

    client = BlockingKernelClient(connection_file=f"{jupyter_runtime_dir()}/kernel-{kernel_id}.json")
    client.load_connection_file()
    client.start_channels(hb=False)  # heartbeats fail in an emulated guest of a busy machine while the kernel is well
    try:
        client.wait_for_ready(timeout=ANSWER_SEC)
        return True
    except RuntimeError:
        return False
    finally:
        client.stop_channels()


if __name__ == "__main__":
    sys.exit(main())
