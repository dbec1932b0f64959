"""The documented examples of the Python package `wrenn`, as its page has them, against the server in the environment.

Prints one JSON object: what each example gave. Names of templates are those of a fresh installation, and what the page
has of github.com is a git server of this file's own in the sandbox.
"""

import asyncio
import json
import sys
import warnings

from wrenn import (
    AsyncCapsule,
    Capsule,
    GitAuthError,
    GitCommandError,
    WrennClient,
    WrennConflictError,
    WrennNotFoundError,
)

seen = {}

# Serves /srv/git by git's own HTTP back end to user:ghp_token alone.
git_server = r"""
import base64, http.server, os, subprocess, sys
class Git(http.server.BaseHTTPRequestHandler):
    def answer(self):
        wanted = "Basic " + base64.b64encode(b"user:ghp_token").decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {**os.environ, "GIT_PROJECT_ROOT": "/srv/git", "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "user",
               "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_GET = do_POST = answer
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Git).serve_forever()
"""


def commands(capsule):
    result = capsule.commands.run("echo hello")
    seen["hello"] = [result.stdout, result.stderr, result.exit_code, result.duration_ms > 0]
    seen["python"] = capsule.commands.run("python -c 'print(42)'").stdout
    capsule.files.write("/app/train.py", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.getcwd())")
    result = capsule.commands.run("python train.py", timeout=120, envs={"CUDA_VISIBLE_DEVICES": "0"}, cwd="/app")
    seen["options"] = result.stdout

    # Streaming output
    events = []
    for event in capsule.commands.stream("python", args=["-u", "-c", "print('out')"]):
        events.append([event.type, getattr(event, "data", None), getattr(event, "exit_code", None)])
    seen["stream"] = events

    # Background process, connecting to it, process management
    handle = capsule.commands.run("for i in 1 2 3 4 5 6 7 8 9; do echo line; sleep 0.3; done", background=True)
    heard = [event.type for event in capsule.commands.connect(handle.pid)]
    seen["connected process"] = [heard[0], "stdout" in heard, heard[-1]]
    handle = capsule.commands.run("sleep 300", background=True)
    seen["listed"] = any(proc.pid == handle.pid and proc.tag == handle.tag for proc in capsule.commands.list())
    capsule.commands.kill(pid=handle.pid)
    seen["killed"] = all(proc.pid != handle.pid for proc in capsule.commands.list())


def files(capsule):
    capsule.files.write("/app/main.py", "print('hello')")
    seen["read"] = capsule.files.read("/app/main.py")
    seen["bytes"] = capsule.files.read_bytes("/app/main.py").decode()
    seen["exists"] = [capsule.files.exists("/app/main.py"), capsule.files.exists("/app/other.py")]
    capsule.files.make_dir("/app/data")
    seen["entries"] = sorted([entry.name, entry.type] for entry in capsule.files.list("/app", depth=1))
    capsule.files.remove("/app/data")
    seen["removed"] = capsule.files.exists("/app/data")

    def chunks():
        yield b"chunk1"
        yield b"chunk2"

    capsule.files.upload_stream("/data/large.bin", chunks())
    seen["large"] = b"".join(capsule.files.download_stream("/data/large.bin")).decode()


def git(capsule):
    capsule.git.init("/app", initial_branch="main")
    capsule.git.configure_user("Alice", "alice@example.com", cwd="/app")
    capsule.git.add(all=True, cwd="/app")
    capsule.git.commit("initial commit", cwd="/app")
    status = capsule.git.status(cwd="/app")
    seen["git"] = [status.branch, status.is_clean]
    capsule.git.create_branch("feature", cwd="/app")
    names = sorted(branch.name for branch in capsule.git.branches(cwd="/app"))
    capsule.git.checkout_branch("main", cwd="/app")
    capsule.git.delete_branch("feature", cwd="/app")
    seen["branches"] = [names, [branch.name for branch in capsule.git.branches(cwd="/app")]]
    try:
        capsule.git.checkout_branch("absent", cwd="/app")
    except GitCommandError as error:
        seen["git error"] = error.exit_code != 0

    # A remote that asks for credentials
    made = "sudo mkdir -p /srv/git && sudo chown user /srv/git && git clone -q --bare /app /srv/git/repo.git"
    capsule.commands.run(f"{made} && git -C /srv/git/repo.git config http.receivepack true")
    capsule.files.write("/tmp/server.py", git_server)
    capsule.commands.run("python /tmp/server.py", background=True)
    capsule.commands.run("bash -c 'until (: </dev/tcp/127.0.0.1/8000) 2>/dev/null; do sleep 0.1; done'")
    url = "http://127.0.0.1:8000/repo.git"
    capsule.commands.run("mkdir -p /app/clones")
    capsule.git.clone(url, username="user", password="ghp_token", cwd="/app/clones")
    clone = "/app/clones/repo"
    capsule.git.configure_user("Alice", "alice@example.com", cwd=clone)
    seen["cloned"] = [capsule.files.read(f"{clone}/main.py"), capsule.git.remote_get("origin", cwd=clone)]
    capsule.files.write(f"{clone}/file.txt", "text")
    capsule.git.add(["file.txt"], cwd=clone)
    capsule.git.restore(["file.txt"], staged=True, cwd=clone)
    seen["restored"] = [file.path for file in capsule.git.status(cwd=clone).files if file.index_status not in (" ", "?")]
    capsule.git.add(all=True, cwd=clone)
    capsule.git.commit("a file", cwd=clone)
    capsule.git.push("origin", "main", username="user", password="ghp_token", cwd=clone)
    capsule.git.pull("origin", "main", username="user", password="ghp_token", cwd=clone)
    capsule.git.reset(mode="hard", ref="HEAD~1", cwd=clone)
    seen["reset"] = capsule.files.exists(f"{clone}/file.txt")
    try:
        capsule.git.push("origin", "main", username="user", password="bad", cwd=clone)
    except GitAuthError as error:
        seen["auth error"] = error.exit_code != 0 and len(error.stderr) > 0
    capsule.git.set_config("core.autocrlf", "false", cwd="/app")
    seen["config"] = capsule.git.get_config("core.autocrlf", cwd="/app")
    capsule.git.remote_add("upstream", url, cwd="/app")
    seen["remotes"] = [capsule.git.remote_get("upstream", cwd="/app"), capsule.git.remote_get("absent", cwd="/app")]
    capsule.git.dangerously_authenticate(username="user", password="ghp_token", host="127.0.0.1:8000", protocol="http")
    capsule.git.clone(url, "again", cwd="/app/clones")
    seen["stored credentials"] = capsule.files.exists("/app/clones/again/main.py")


def until(term, text):
    """Reads a terminal until it shows `text`; whether it did."""
    output = b""
    for event in term:
        if event.type == "output":
            output += event.data
        if text in output or event.type == "exit":
            break
    return text in output


def terminal(capsule):
    with capsule.pty(cmd="/bin/bash", cols=80, rows=24, cwd="/home/user") as term:
        term.write(b"cd /; echo $((6*7))\n")
        seen["terminal"] = until(term, b"42")
        term.resize(100, 30)
    # Reconnect to an existing session
    with capsule.pty_connect(term.tag) as again:
        again.write(b"echo re$((1))connected in $PWD; stty size\n")
        seen["reconnected"] = [until(again, b"re1connected in /"), until(again, b"30 100"), again.tag == term.tag]
        again.kill()
        seen["terminal ended"] = any(event.type == "exit" for event in again)


def life(capsule):
    seen["url"] = capsule.get_url(8080)
    capsule.ping()
    capsule.pause()
    capsule.resume()
    capsule.wait_ready()
    seen["running"] = [capsule.get_info().status, capsule.is_running()]
    Capsule.pause(capsule.capsule_id)
    again = Capsule.connect(capsule.capsule_id)  # resumes it
    seen["connected"] = again.commands.run("cat /app/main.py").stdout
    Capsule.pause(capsule.capsule_id)
    Capsule.resume(capsule.capsule_id)
    capsule.wait_ready()
    seen["in list"] = any(one.id == capsule.capsule_id for one in Capsule.list())
    try:
        Capsule.get_info("nonexistent")
    except WrennNotFoundError as error:
        seen["not found"] = [error.code, error.status_code]
    with WrennClient() as client:
        seen["event"] = next(client.events.stream()).event
        seen["stats"] = client.capsules.stats(range="1h") is not None
        seen["usage"] = client.capsules.usage() is not None
        seen["metrics"] = client.capsules.metrics(capsule.capsule_id, range="10m") is not None


def snapshots(capsule):
    template = capsule.create_snapshot(name="my-template", overwrite=True)
    Capsule.resume(capsule.capsule_id)
    capsule.wait_ready()
    again = capsule.create_snapshot(name="my-template", overwrite=True)
    seen["snapshot"] = [template.name, again.name]
    Capsule.resume(capsule.capsule_id)
    capsule.wait_ready()
    try:
        capsule.create_snapshot(name="my-template")
    except WrennConflictError as error:
        seen["taken"] = error.status_code
    with WrennClient() as client:
        seen["snapshots"] = [one.name for one in client.snapshots.list(type="custom")]
        one = client.capsules.create(template="my-template")
        seen["low level"] = one.template
        client.capsules.ping(one.id)
        client.capsules.pause(one.id)
        client.capsules.resume(one.id)
        client.capsules.destroy(one.id)
        client.snapshots.delete("my-template")
        seen["deleted"] = [one.name for one in client.snapshots.list(type="snapshot")]


async def concurrent():
    async with await AsyncCapsule.create(template="base", wait=True) as capsule:
        result = await capsule.commands.run("echo hello")
        await capsule.files.write("/app/file.txt", "data")
        entries = [entry.name for entry in await capsule.files.list("/app")]
        events = [event.type async for event in capsule.commands.stream("echo", args=["out"])]
        output = b""
        async with capsule.pty(cmd="/bin/bash") as term:
            await term.write(b"echo $((6*7)); exit\n")
            async for event in term:
                if event.type == "output":
                    output += event.data
        await capsule.git.init("/app", initial_branch="main")
        branch = (await capsule.git.status(cwd="/app")).branch
        await capsule.pause()
        await capsule.resume()
        again = await capsule.commands.run("cat /app/file.txt")
        seen["async"] = [result.stdout, entries, events[0], events[-1], b"42" in output, branch, again.stdout]


with Capsule(template="base", wait=True) as capsule:
    for example in (commands, files, git, terminal, life, snapshots):
        example(capsule)
seen["destroyed"] = Capsule.get_info(capsule.capsule_id).status
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from wrenn import Sandbox
    seen["old name"] = [Sandbox is Capsule, [one.category.__name__ for one in told][:1]]
asyncio.run(concurrent())
json.dump(seen, sys.stdout)
