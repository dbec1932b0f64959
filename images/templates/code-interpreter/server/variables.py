"""How each language gets variables, and loses those of one execution afterwards."""

import json
import shlex


def set_javascript(env: dict) -> str:
    return f"Object.assign(process.env, {json.dumps(env)}); undefined"


def unset_javascript(env: dict) -> str:
    return f"for (const name of {json.dumps(list(env))}) delete process.env[name]; undefined"


def set_python(env: dict) -> str:
    return f"import os as _os; _os.environ.update({env!r}); del _os"


def unset_python(env: dict) -> str:
    return f"import os as _os; [_os.environ.pop(_n, None) for _n in {list(env)!r}]; del _os"


def set_bash(env: dict) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in env.items())


def unset_bash(env: dict) -> str:
    return "\n".join(f"unset {name}" for name in env)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def set_r(env: dict) -> str:
    return f"invisible(Sys.setenv({', '.join(f'`{name}`={quoted(value)}' for name, value in env.items())}))"


def unset_r(env: dict) -> str:
    return f"invisible(Sys.unsetenv(c({', '.join(quoted(name) for name in env)})))"


SET = {"python": set_python, "javascript": set_javascript, "typescript": set_javascript, "bash": set_bash, "r": set_r}
UNSET = {
    "python": unset_python,
    "javascript": unset_javascript,
    "typescript": unset_javascript,
    "bash": unset_bash,
    "r": unset_r,
}
