"""Drives the published E2B SDK for Python, told nothing but its variables. Prints one JSON line: what worked, what failed."""

import asyncio
import inspect
import json
import sys
import time
import traceback

import httpx
from e2b import (
    AsyncCommandHandle,
    AsyncSandbox,
    AsyncSecret,
    AsyncVolume,
    AsyncWatchHandle,
    CommandExitException,
    CommandHandle,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxQuery,
    Secret,
    TimeoutException,
    Volume,
    VolumePathNotFoundException,
    WatchHandle,
)

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
    if type(raw).__name__ in ("class_method_variant", "DualMethod"):

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


for name, cls in {
    **{"sandbox": Sandbox, "commandHandle": CommandHandle, "watchHandle": WatchHandle, "Volume": Volume, "Secret": Secret},
    **{"async sandbox": AsyncSandbox, "async commandHandle": AsyncCommandHandle, "async watchHandle": AsyncWatchHandle},
    **{"async Volume": AsyncVolume, "async Secret": AsyncSecret},
}.items():
    watch(name, cls)
box = Sandbox.create("base", envs={"FROM_CREATE": "yes"}, metadata={"suite": "python"})
for part in ("commands", "files", "pty", "git"):
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
    reader = box.commands.run("cat", background=True, stdin=True)
    reader.send_stdin("by its handle\n")
    reader.close_stdin()
    assert reader.wait().stdout == "by its handle\n"
    sleeper = box.commands.run("sleep 600", background=True)
    box.commands.connect(sleeper.pid).disconnect()
    assert box.commands.kill(sleeper.pid)
    assert box.commands.run("sleep 600", background=True).kill()


@check("a terminal is opened, resized, typed into, attached to and killed")
def _():
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


@check("git works as the SDK drives it")
def _():
    git, path = box.git, "/home/user/repo"
    git.init(path, initial_branch="main")
    git.configure_user("Ann", "ann@example.com", scope="local", path=path)
    box.files.write(f"{path}/a.txt", "one")
    git.add(path)
    assert git.status(path).has_staged
    git.commit(path, "first")
    git.create_branch(path, "side")
    git.checkout_branch(path, "main")
    assert sorted(git.branches(path).branches) == ["main", "side"]
    git.delete_branch(path, "side")
    git.set_config("pull.rebase", "false", scope="local", path=path)
    assert git.get_config("pull.rebase", scope="local", path=path) == "false"
    box.commands.run(f"git clone -q --bare {path} /home/user/remote.git")
    git.remote_add(path, "origin", "/home/user/remote.git")
    assert git.remote_get(path, "origin") == "/home/user/remote.git"
    box.files.write(f"{path}/a.txt", "two")
    git.restore(path, paths=["a.txt"])
    git.reset(path, mode="hard")
    git.push(path, remote="origin", branch="main")
    git.pull(path, remote="origin", branch="main")
    git.clone("/home/user/remote.git", path="/home/user/copy")
    assert box.files.read("/home/user/copy/a.txt") == "one"
    git.dangerously_authenticate("ann", "secret", host="git.example.com", protocol="https")


@check("a pause without memory keeps files and gives processes up")
def _():
    sandbox = Sandbox.create("minimal")
    sandbox.commands.run("sleep 600", background=True, timeout=0)
    sandbox.files.write("/var/tmp/kept", "kept")
    sandbox.pause(mode="filesystem")
    sandbox.connect()
    assert (sandbox.files.read("/var/tmp/kept"), sandbox.commands.list()) == ("kept", [])
    sandbox.pause(strict=True)
    before = time.time()
    sandbox.connect(on_resume="reboot")
    assert float(sandbox.commands.run("cut -d. -f1 /proc/uptime").stdout) <= time.time() - before + 5
    assert sandbox.kill()


async def value(given):
    """What a call gives, of either kind of client."""
    return await given if inspect.isawaitable(given) else given


for volumes, secrets in ((Volume, Secret), (AsyncVolume, AsyncSecret)):

    @check(f"{volumes.__name__} holds files")
    async def _(volumes=volumes):
        name = f"notes-{volumes.__name__}"
        volume = await value(volumes.create(name))
        await value(volume.make_dir("/a/b", force=True))
        await value(volume.write_file("/a/b/f.txt", "hällo", mode=0o600))
        again = await value(volumes.connect(volume.volume_id))
        assert await value(again.read_file("/a/b/f.txt")) == "hällo"
        assert [one.path for one in await value(again.list("/", depth=3))] == ["/a", "/a/b", "/a/b/f.txt"]
        assert (await value(again.update_metadata("/a/b/f.txt", mode=0o644))).mode == 0o644
        assert (await value(volumes.get_info(volume.volume_id))).name == name
        assert (await value(again.get_info("/a/b/f.txt"))).size == 6
        await value(again.remove("/a/b"))
        assert not await value(again.exists("/a/b/f.txt")) and await value(again.exists("/a"))
        try:
            await value(again.read_file("/a/b/f.txt"))
            raise AssertionError("was there")
        except VolumePathNotFoundException:
            pass
        assert name in [one.name for one in await value(volumes.list())]
        assert await value(volumes.destroy(volume.volume_id))
        assert not await value(volumes.destroy(volume.volume_id))

    @check(f"{secrets.__name__} keeps secrets")
    async def _(secrets=secrets):
        name = f"key_{secrets.__name__.lower()}"
        made = await value(secrets.create(name, "hunter2", metadata={"for": "python"}))
        assert (await value(secrets.update(name, "hunter3"))).version == made.version + 1
        assert (await value(secrets.get_info(name))).metadata == {"for": "python"}
        assert name in [one.name for one in await value(secrets.list().next_items())]
        assert await value(secrets.exists(name)) and name in secrets.fill(name)
        secrets.iam_token(audience="x", token_type="JWT-SVID")
        assert await value(secrets.destroy(name)) and not await value(secrets.destroy(name))


async def async_files(sandbox):
    files = sandbox.files
    await files.write("/tmp/a/f", "x")
    await files.write_files([{"path": "/tmp/a/g", "data": "y"}])
    assert await files.read("/tmp/a/f") == "x"
    assert [one.name for one in await files.list("/tmp/a")] == ["f", "g"]
    assert (await files.get_info("/tmp/a/f")).size == 1
    assert await files.make_dir("/tmp/a/d")
    await files.rename("/tmp/a/g", "/tmp/a/d/g")
    told = asyncio.Event()
    watching = await files.watch_dir("/tmp/a", on_event=lambda event: told.set())
    await files.write("/tmp/a/f", "two")
    await asyncio.wait_for(told.wait(), 60)
    await watching.stop()
    await files.remove("/tmp/a/d")
    assert not await files.exists("/tmp/a/d")


async def async_life(sandbox):
    assert (await sandbox.get_info()).metadata == {"suite": "async"}
    listed = await AsyncSandbox.list(query=SandboxQuery(metadata={"suite": "async"})).next_items()
    assert [one.sandbox_id for one in listed] == [sandbox.sandbox_id]
    await sandbox.set_timeout(900)
    await sandbox.update_network({"deny_out": ["203.0.113.0/24"]})
    await sandbox.get_metrics()
    assert sandbox.get_host(80).startswith("80-") and "mcp" in sandbox.get_mcp_url()
    assert sandbox.download_url("/tmp/a/f") and sandbox.upload_url("/tmp/a/f")
    await sandbox.pause()
    assert not await sandbox.is_running()
    await sandbox.connect()
    (child,) = await sandbox.fork()
    assert await child.kill()
    taken = await sandbox.create_snapshot()
    assert [one.snapshot_id for one in await sandbox.list_snapshots().next_items()] == [taken.snapshot_id]
    assert await AsyncSandbox.delete_snapshot(taken.snapshot_id)
    await sandbox.files.write("/etc/mcp-gateway/.token", "of the gateway", user="root")
    assert await sandbox.get_mcp_token() == "of the gateway"
    assert await sandbox.kill()


@check("the asynchronous client does the same")
async def _():
    sandbox = await AsyncSandbox.create("minimal", metadata={"suite": "async"})
    for part in ("commands", "files", "pty"):
        watch(f"async sandbox.{part}", type(getattr(sandbox, part)))
    assert (await sandbox.commands.run("echo async")).stdout == "async\n"
    reader = await sandbox.commands.run("cat", background=True, stdin=True)
    assert reader.pid in [one.pid for one in await sandbox.commands.list()]
    await sandbox.commands.send_stdin(reader.pid, "one\n")
    async with sandbox.commands.stream_input(reader.pid) as stream:
        await stream.send("two\n")
    await reader.send_stdin("three\n")
    await sandbox.commands.close_stdin(reader.pid)
    assert (await reader.wait()).stdout == "one\ntwo\nthree\n"
    closed = await sandbox.commands.run("cat", background=True, stdin=True)
    await closed.close_stdin()
    await closed.wait()
    sleeper = await sandbox.commands.run("sleep 600", background=True)
    await (await sandbox.commands.connect(sleeper.pid)).disconnect()
    assert await sandbox.commands.kill(sleeper.pid)
    assert await (await sandbox.commands.run("sleep 600", background=True)).kill()
    heard = []
    terminal = await sandbox.pty.create(PtySize(cols=80, rows=24), on_data=heard.append, timeout=0)
    await sandbox.pty.resize(terminal.pid, PtySize(cols=111, rows=33))
    await sandbox.pty.send_stdin(terminal.pid, b"stty size\n")
    async with sandbox.pty.stream_input(terminal.pid) as stream:
        await stream.send(b"exit\n")
    await terminal.wait()
    assert b"33 111" in b"".join(heard), heard
    other = await sandbox.pty.create(PtySize(cols=80, rows=24), on_data=heard.append, timeout=0)
    await (await sandbox.pty.connect(other.pid, on_data=heard.append)).disconnect()
    assert await sandbox.pty.kill(other.pid)
    await async_files(sandbox)
    await async_life(sandbox)


@check("the gateway's token is read where a template has one")
def _():
    box.files.write("/etc/mcp-gateway/.token", "of the gateway", user="root")
    assert box.get_mcp_token() == "of the gateway" and box.get_mcp_url().endswith("/mcp")


box.kill()
json.dump({"all": sorted(every), "seen": sorted(seen), "failures": failures}, sys.stdout)
