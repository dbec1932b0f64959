"""Run by every Python kernel at its start: what tables and figures are shown as."""


def _register() -> None:
    from IPython import get_ipython
    from IPython.core.formatters import BaseFormatter

    formatters = get_ipython().display_formatter

    class Table(BaseFormatter):
        """A table as its columns by name."""

        format_type = "e2b/data"
        print_method = "_repr_e2b_data_"

        def __call__(self, shown):
            is_table = type(shown).__name__ == "DataFrame" and type(shown).__module__.startswith("pandas")
            return shown.to_dict(orient="list") if is_table else None

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

    for formatter in (Table(parent=formatters), Chart(parent=formatters)):
        formatters.formatters[formatter.format_type] = formatter
    get_ipython().run_line_magic("matplotlib", "inline")


_register()
del _register
