"""The documented examples of the published package e2b_code_interpreter; prints what failed as JSON."""

import asyncio
import json
import traceback

from e2b_code_interpreter import AsyncSandbox, Sandbox

failures: dict = {}
passed = 0


def check(name: str, found: object, wanted: object) -> None:
    global passed
    if found == wanted:
        passed += 1
    else:
        failures[name] = f"{found!r} instead of {wanted!r}"


def basics(sandbox: Sandbox) -> None:
    sandbox.run_code("x = 1")
    check("state is kept", sandbox.run_code("x += 1; x").text, "2")
    check("logs", sandbox.run_code("print('hello')").logs.stdout, ["hello\n"])
    error = sandbox.run_code("int('x')").error
    check("error", (error.name, "Traceback" in error.traceback), ("ValueError", True))
    lines: list = []
    sandbox.run_code("for i in range(3): print(i)", on_stdout=lambda message: lines.append(message.line))
    check("streaming", "".join(lines).split(), ["0", "1", "2"])


def charts(sandbox: Sandbox) -> None:
    code = """
import matplotlib.pyplot as plt
import numpy as np
x = np.linspace(0, 20, 30)
plt.figure(figsize=(4, 3))
plt.plot(x, np.sin(x), label="sine")
plt.xlabel("Angle")
plt.title("Waves")
plt.show()
"""
    result = sandbox.run_code(code).results[-1]
    check("chart", (result.chart.type.value, result.chart.title, result.chart.x_label), ("line", "Waves", "Angle"))
    check("points", len(result.chart.elements[0].points), 30)
    check("image", result.png[:5], "iVBOR")
    check("formats", {"png", "chart"} <= set(result.formats()), True)


def data(sandbox: Sandbox) -> None:
    code = "import pandas as pd\npd.DataFrame({'col1': [1, 2], 'col2': [3, 4]})"
    check("table", sandbox.run_code(code).results[0].data, {"col1": [1, 2], "col2": [3, 4]})
    check("latex", "frac" in sandbox.run_code("from sympy import *\nSymbol('a') / 2").results[0].latex, True)
    code = "from IPython.display import display, JSON, Markdown\ndisplay(Markdown('# hi'))\nJSON({'a': 1})"
    shown = sandbox.run_code(code).results
    check("display", (shown[0].markdown, shown[1].json), ("# hi", {"a": 1}))


def contexts(sandbox: Sandbox) -> None:
    context = sandbox.create_code_context(cwd="/home/user", language="python")
    sandbox.run_code("z = 1", context=context)
    check("contexts are apart", sandbox.run_code("z").error.name, "NameError")
    check("listed", context.id in [one.id for one in sandbox.list_code_contexts()], True)
    sandbox.remove_code_context(context)
    check("JavaScript", sandbox.run_code("[1, 2].map((n) => n * 2)", language="js").text, "[ 2, 4 ]")
    check("Bash", sandbox.run_code("echo $((6 * 7))", language="bash").logs.stdout, ["42\n"])


async def asynchronous() -> None:
    sandbox = await AsyncSandbox.create()
    try:
        check("async", (await sandbox.run_code("6 * 7")).text, "42")
    finally:
        await sandbox.kill()


def attempt(name: str, act) -> None:
    try:
        act()
    except Exception:
        failures[name] = traceback.format_exc()


with Sandbox.create() as sandbox:
    for part in (basics, charts, data, contexts):
        attempt(part.__name__, lambda: part(sandbox))
attempt("asynchronous", lambda: asyncio.run(asynchronous()))
print(json.dumps({"failures": failures, "passed": passed}))
