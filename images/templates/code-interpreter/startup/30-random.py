"""Run by every Python kernel at its start. One that was started in a template would give every sandbox the same random
numbers, so the first cell that is numbered begins with new ones; those before were rehearsals."""


def _register() -> None:
    import random
    import sys

    from IPython import get_ipython

    events = get_ipython().events

    def reseed(info) -> None:
        if not info.store_history:
            return
        events.unregister("pre_run_cell", reseed)
        random.seed()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()

    events.register("pre_run_cell", reseed)


_register()
del _register
