"""The documented examples of the Python package `wrenn`, as its page has them, against the server in the environment.

Prints one JSON object: what each example gave. Templates and paths are those of a fresh installation.
"""

import json
import sys

from wrenn import Capsule, GitCommandError

seen = {}

with Capsule(template="base", wait=True) as capsule:
    # Command execution
    result = capsule.commands.run("echo hello")
    seen["hello"] = [result.stdout, result.stderr, result.exit_code, result.duration_ms > 0]
    result = capsule.commands.run("python3 -c 'print(42)'")
    seen["python"] = result.stdout
    result = capsule.commands.run("echo $COLOR; pwd", timeout=120, envs={"COLOR": "blue"}, cwd="/tmp")
    seen["options"] = result.stdout

    # Streaming output
    events = []
    for event in capsule.commands.stream("python3", args=["-u", "-c", "print('out')"]):
        events.append([event.type, getattr(event, "data", None), getattr(event, "exit_code", None)])
    seen["stream"] = events

    # Background process, process management
    handle = capsule.commands.run("sleep 300", background=True)
    seen["listed"] = any(proc.pid == handle.pid for proc in capsule.commands.list())
    capsule.commands.kill(pid=handle.pid)

    # Filesystem
    capsule.files.make_dir("/home/user/app/data")
    capsule.files.write("/home/user/app/main.py", "print('hello')")
    seen["read"] = capsule.files.read("/home/user/app/main.py")
    seen["bytes"] = capsule.files.read_bytes("/home/user/app/main.py").decode()
    seen["exists"] = capsule.files.exists("/home/user/app/main.py")
    seen["absent"] = capsule.files.exists("/home/user/app/other.py")
    seen["entries"] = sorted([entry.name, entry.type] for entry in capsule.files.list("/home/user/app", depth=1))
    capsule.files.remove("/home/user/app/data")
    seen["removed"] = capsule.files.exists("/home/user/app/data")

    def chunks():
        yield b"chunk1"
        yield b"chunk2"

    capsule.files.upload_stream("/home/user/large.bin", chunks())
    seen["large"] = b"".join(capsule.files.download_stream("/home/user/large.bin")).decode()

    # Git
    if capsule.commands.run("command -v git || true").stdout.strip():
        capsule.git.init("/home/user/app", initial_branch="main")
        capsule.git.configure_user("Alice", "alice@example.com", cwd="/home/user/app")
        capsule.git.add(all=True, cwd="/home/user/app")
        capsule.git.commit("initial commit", cwd="/home/user/app")
        status = capsule.git.status(cwd="/home/user/app")
        seen["git"] = [status.branch, status.is_clean]
        try:
            capsule.git.checkout_branch("absent", cwd="/home/user/app")
        except GitCommandError as error:
            seen["git error"] = error.exit_code != 0

    # Interactive terminal
    output = b""
    with capsule.pty(cmd="/bin/bash", cols=80, rows=24, cwd="/home/user") as term:
        term.write(b"echo $((6*7)); exit\n")
        for event in term:
            if event.type == "output":
                output += event.data
            elif event.type == "exit":
                break
    seen["terminal"] = "42" in output.decode()

    # Proxy URL
    seen["url"] = capsule.get_url(8080)

    # Lifecycle
    capsule.ping()
    capsule.pause()
    capsule.resume()
    capsule.wait_ready()
    seen["running"] = [capsule.get_info().status, capsule.is_running()]
    again = Capsule.connect(capsule.capsule_id)
    seen["connected"] = again.commands.run("cat /home/user/app/main.py").stdout
    seen["in list"] = any(one.id == capsule.capsule_id for one in Capsule.list())

    # Snapshots
    template = capsule.create_snapshot(name="my-template")
    seen["snapshot"] = template.name

seen["destroyed"] = Capsule.get_info(again.capsule_id).status
json.dump(seen, sys.stdout)
