"""Run by every Python kernel at its start: what tables and figures are shown as."""


def _register() -> None:
    from IPython import get_ipython
    from IPython.core.formatters import BaseFormatter, JSONFormatter

    formatters = get_ipython().display_formatter

    def plain(value):
        """As JSON has it: no number that is none, times as text. None where there is no JSON of it."""
        import orjson

        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        try:
            return orjson.loads(orjson.dumps(value, default=text_of, option=options))
        except TypeError:
            return None

    def text_of(value):
        if hasattr(value, "isoformat"):
            return None if value != value else value.isoformat()
        raise TypeError

    class Json(JSONFormatter):
        """Lists and dictionaries as such."""

        def __call__(self, shown):
            return (plain(shown) if isinstance(shown, (dict, list)) else None) or super().__call__(shown)

    class Table(BaseFormatter):
        """A table as its columns by name."""

        format_type = "e2b/data"
        print_method = "_repr_e2b_data_"

        def __call__(self, shown):
            is_table = type(shown).__name__ == "DataFrame" and type(shown).__module__.startswith("pandas")
            if not is_table:
                return None
            columns = shown.to_dict(orient="list")
            return plain(columns) or plain({name: [str(value) for value in column] for name, column in columns.items()})

    class Chart(BaseFormatter):
        """A figure as what is drawn: kind, axes, points. Not a printer by type: the inline backend removes those."""

        format_type = "e2b/chart"
        print_method = "_repr_e2b_chart_"

        def __call__(self, shown):
            if type(shown).__name__ != "Figure" or type(shown).__module__ != "matplotlib.figure":
                return None
            from e2b_charts import chart_figure_to_dict

            try:
                return chart_figure_to_dict(shown)
            except Exception:  # a figure that is no chart is shown as an image alone
                return None

    for formatter in (Json(parent=formatters), Table(parent=formatters), Chart(parent=formatters)):
        formatters.formatters[formatter.format_type] = formatter
    get_ipython().run_line_magic("matplotlib", "inline")


_register()
del _register
