"""A Jupyter kernel for JavaScript: Node's own read-eval-print loop behind the kernel protocol."""

import json
import os
import signal
import subprocess

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

LOOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrenn_javascript.mjs")


class JavaScriptKernel(Kernel):
    implementation = "wrenn-javascript"
    implementation_version = "1.0"
    language_info = {"name": "javascript", "mimetype": "text/javascript", "file_extension": ".js"}
    banner = "JavaScript"

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._node = self._start()

    def _start(self) -> subprocess.Popen:
        # A group of its own: an interrupt reaches the kernel alone, which hands it on.
        return subprocess.Popen(
            ["node", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False, **_):
        self._node.stdin.write(json.dumps({"code": code}) + "\n")
        self._node.stdin.flush()
        reply = {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}
        while True:
            try:
                line = self._node.stdout.readline()
            except KeyboardInterrupt:
                self._node.send_signal(signal.SIGINT)
                continue
            if line == "":
                self._node = self._start()
                return self._failed({"name": "ProcessExit", "value": "The program ended Node.", "stack": []})
            event = json.loads(line)
            if event["type"] == "done":
                return reply
            if event["type"] == "error":
                self._node.stdout.readline()  # what follows an error is its end
                return self._failed(event)
            if silent:
                continue
            if event["type"] == "result":
                data = {"execution_count": self.execution_count, "data": event["data"], "metadata": {}}
                self.send_response(self.iopub_socket, "execute_result", data)
            else:
                self.send_response(self.iopub_socket, "stream", {"name": event["type"], "text": event["text"]})

    def _failed(self, event) -> dict:
        content = {"ename": event["name"], "evalue": event["value"], "traceback": event["stack"]}
        self.send_response(self.iopub_socket, "error", content)
        return {"status": "error", "execution_count": self.execution_count, **content}

    def do_shutdown(self, restart):
        self._node.kill()
        return {"status": "ok", "restart": restart}


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=JavaScriptKernel)
