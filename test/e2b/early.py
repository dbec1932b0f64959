"""An early version of the published E2B SDK for Python does what it did on E2B's own servers."""

from e2b import CommandExitException, Sandbox

sandbox = Sandbox.create("minimal", timeout=60)
sandbox.files.write("/tmp/f", "early")
assert sandbox.commands.run("cat /tmp/f").stdout == "early"
try:
    sandbox.commands.run("exit 3")
    raise AssertionError("did not fail")
except CommandExitException as failed:
    assert failed.exit_code == 3
assert [one.name for one in sandbox.files.list("/tmp") if one.name == "f"] == ["f"]
assert Sandbox.get_info(sandbox.sandbox_id).sandbox_id == sandbox.sandbox_id
assert sandbox.kill() and not sandbox.is_running()
print("early done")
