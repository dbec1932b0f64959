"""Drives the published E2B SDK for Python, told nothing but its variables. Prints one JSON line: what worked, what failed."""

import asyncio
import inspect
import json
import sys
import time
import traceback

import httpx
from e2b import AsyncSandbox, CommandExitException, NotFoundException, Sandbox, SandboxQuery, TimeoutException

INTERNAL = {"default_template", "default_mcp_template"}
seen: set[str] = set()
every: set[str] = set()
failures: dict[str, str] = {}


def watch(name: str, cls: type) -> None:
    """Every public method of `cls` counts when a call of it has returned."""
    for method in dir(cls):
        if method.startswith("_") or method in INTERNAL:
            continue
        raw = inspect.getattr_static(cls, method)
        if isinstance(raw, property) or not callable(getattr(cls, method)):
            continue
        full = f"{name}.{method}"
        every.add(full)
        setattr(cls, method, wrapped(full, raw))


def wrapped(full: str, raw):
    if isinstance(raw, (staticmethod, classmethod)):
        return type(raw)(wrapped(full, raw.__func__))
    if type(raw).__name__ == "class_method_variant":

        class Variant:
            def __get__(self, instance, owner):
                return wrapped(full, raw.__get__(instance, owner))

        return Variant()

    def call(*args, **kwargs):
        given = raw(*args, **kwargs)
        if not inspect.isawaitable(given):
            seen.add(full)
            return given

        async def later():
            value = await given
            seen.add(full)
            return value

        return later()

    return call


def check(name: str):
    def run(test):
        try:
            result = test()
            if inspect.isawaitable(result):
                asyncio.run(result)
        except Exception:
            failures[name] = traceback.format_exc()
        return test

    return run


def until(look, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.1)
    return value


watch("sandbox", Sandbox)
box = Sandbox.create("base", envs={"FROM_CREATE": "yes"}, metadata={"suite": "python"})
for part in ("commands", "files", "pty"):
    watch(f"sandbox.{part}", type(getattr(box, part)))


def visit(sandbox, port: int):
    import os

    return httpx.get(os.environ["E2B_SANDBOX_URL"], headers={"host": sandbox.get_host(port)})


@check("commands run, stream, fail with their code, and end when their time is up")
def _():
    said: list[str] = []
    done = box.commands.run("whoami; pwd; echo $FROM_CREATE", on_stdout=said.append)
    assert done.stdout == "user\n/home/user\nyes\n" == "".join(said), done
    try:
        box.commands.run("echo err >&2; exit 7")
        raise AssertionError("did not fail")
    except CommandExitException as failed:
        assert (failed.exit_code, failed.stderr) == (7, "err\n")
    try:
        box.commands.run("sleep 60", timeout=1)
        raise AssertionError("did not end")
    except TimeoutException:
        pass


@check("commands in the background are listed, fed, attached to and killed")
def _():
    reader = box.commands.run("cat", background=True, stdin=True)
    assert reader.pid in [one.pid for one in box.commands.list()]
    box.commands.send_stdin(reader.pid, "fed\n")
    box.commands.close_stdin(reader.pid)
    assert reader.wait().stdout == "fed\n"
    reader = box.commands.run("cat", background=True, stdin=True)
    box.commands.stream_input(reader.pid, (f"{i}\n" for i in range(3)))
    box.commands.close_stdin(reader.pid)
    assert reader.wait().stdout == "0\n1\n2\n"
    sleeper = box.commands.run("sleep 600", background=True)
    box.commands.connect(sleeper.pid).disconnect()
    assert box.commands.kill(sleeper.pid)


@check("a terminal is opened, resized, typed into, attached to and killed")
def _():
    from e2b import PtySize

    terminal = box.pty.create(PtySize(cols=80, rows=24), timeout=0)
    box.pty.resize(terminal.pid, PtySize(cols=111, rows=33))
    box.pty.send_stdin(terminal.pid, b"stty size\n")
    box.pty.stream_input(terminal.pid, iter(["exit", "\n"]))
    heard = b"".join(pty for _, _, pty in terminal if pty)
    assert b"33 111" in heard, heard
    other = box.pty.create(PtySize(cols=80, rows=24), timeout=0)
    box.pty.connect(other.pid).disconnect()
    assert box.pty.kill(other.pid)


@check("files are written, read, described, moved, watched and removed")
def _():
    box.files.write("a/b.txt", "hällo")
    assert box.files.read("a/b.txt") == "hällo"
    assert bytes(box.files.read("a/b.txt", format="bytes")) == "hällo".encode()
    assert b"".join(box.files.read("a/b.txt", format="stream")) == "hällo".encode()
    box.files.write_files([{"path": "a/1", "data": "1"}, {"path": "a/2", "data": b"22"}])
    assert [one.name for one in box.files.list("a")] == ["1", "2", "b.txt"]
    assert box.files.get_info("a/2").size == 2
    assert box.files.make_dir("a/dir") and not box.files.make_dir("a/dir")
    assert box.files.rename("a/1", "a/dir/one").path == "/home/user/a/dir/one"
    watching = box.files.watch_dir("a", recursive=True)
    box.files.write("a/b.txt", "two")
    until(lambda: any(event.name == "b.txt" for event in watching.get_new_events()))
    watching.stop()
    box.files.remove("a/2")
    assert not box.files.exists("a/2")
    try:
        box.files.read("nope")
        raise AssertionError("was there")
    except NotFoundException:
        pass


@check("signed URLs work without any header")
def _():
    box.files.write("signed.txt", "signed")
    assert httpx.get(box.download_url("signed.txt")).text == "signed"
    up = httpx.post(box.upload_url("up.txt"), files={"file": b"up"})
    assert up.json() == [{"path": "/home/user/up.txt", "name": "up.txt", "type": "file"}], up.text


@check("life is told, listed, lengthened, paused, resumed, forked and ended")
def _():
    info = box.get_info()
    assert (info.template_id, info.metadata) == ("base", {"suite": "python"})
    listed = Sandbox.list(query=SandboxQuery(metadata={"suite": "python"})).next_items()
    assert [one.sandbox_id for one in listed] == [box.sandbox_id]
    Sandbox.connect(box.sandbox_id, timeout=1)
    assert box.get_info().end_at == info.end_at
    box.set_timeout(900)
    until(lambda: box.get_metrics())
    box.update_network({"deny_out": ["203.0.113.0/24"]})
    assert box.get_info().network["deny_out"] == ["203.0.113.0/24"]
    box.update_network({})
    box.pause()
    assert not box.is_running()
    box.connect()
    assert box.is_running()
    box.files.write("state", "before")
    (child,) = box.fork()
    assert child.files.read("state") == "before"
    assert child.kill() and not child.kill()
    taken = box.create_snapshot()
    assert [one.snapshot_id for one in box.list_snapshots().next_items()] == [taken.snapshot_id]
    assert Sandbox.delete_snapshot(taken.snapshot_id)


@check("ports are reached at the host name that the SDK gives")
def _():
    box.commands.run("cd /tmp && exec python3 -m http.server 8000", background=True, timeout=0)
    until(lambda: visit(box, 8000).status_code == 200)
    assert visit(box, 8001).json()["port"] == 8001


@check("the asynchronous client does the same")
async def _():
    sandbox = await AsyncSandbox.create("minimal")
    assert (await sandbox.commands.run("echo async")).stdout == "async\n"
    await sandbox.files.write("/tmp/f", "x")
    assert await sandbox.files.read("/tmp/f") == "x"
    assert await sandbox.kill()


box.kill()
json.dump({"all": sorted(every), "seen": sorted(seen), "failures": failures}, sys.stdout)
