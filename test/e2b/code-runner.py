"""The code runner of the published package wrenn, as its documentation uses it."""

import socket

from wrenn.code_runner import Capsule

# Every name under localhost is this machine (RFC 6761, 6.3); not every C library knows that.
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve(
    "127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **named
)

with Capsule(wait=True) as capsule:
    capsule.run_code("x = 42")
    result = capsule.run_code("print('hello')\nx * 2")
    assert result.logs.stdout == ["hello\n"], result.logs
    assert result.text == "84", result.text

    error = capsule.run_code("1 / 0").error
    assert error.name == "ZeroDivisionError", error

    chart = capsule.run_code("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    assert any(one.png for one in chart.results), [one.formats() for one in chart.results]

    table = capsule.run_code("import pandas as pd\npd.DataFrame({'a': [1]})")
    assert "<table" in table.results[0].html

    heard = []
    capsule.run_code("for i in range(3): print(i)", on_stdout=heard.append)
    assert "".join(heard).split() == ["0", "1", "2"], heard

    capsule.pause()
    again = Capsule.connect(capsule.capsule_id)
    assert again.run_code("x").text == "42"
    again.close()

print("all is well")
