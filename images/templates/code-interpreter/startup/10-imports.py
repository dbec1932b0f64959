"""Run by every Python kernel at its start: what its first cell would have to load is loaded already, where that is asked for."""


def _load() -> None:
    import importlib
    import os

    for name in os.environ.get("WRENN_IMPORTS", "").split():
        importlib.import_module(name)


_load()
del _load
