"""Run by every Python kernel at its start: what tables and figures are shown as."""

import matplotlib

matplotlib.use("module://matplotlib_inline.backend_inline")


def _register() -> None:
    from IPython import get_ipython

    formatters = get_ipython().display_formatter

    def table(frame):
        """Columns by name, as lists."""
        return frame.to_dict(orient="list")

    def chart(figure):
        """What is drawn, as data: kind, axes, points."""
        from e2b_charts import chart_figure_to_dict

        try:
            return chart_figure_to_dict(figure)
        except Exception:  # a figure that is no chart is shown as an image alone
            return None

    from IPython.core.formatters import BaseFormatter

    class Table(BaseFormatter):
        format_type = "e2b/data"
        print_method = "_repr_e2b_data_"
        _return_type = dict

    class Chart(BaseFormatter):
        format_type = "e2b/chart"
        print_method = "_repr_e2b_chart_"
        _return_type = dict

    for formatter, target, show in (
        (Table(parent=formatters), ("pandas.core.frame", "DataFrame"), table),
        (Chart(parent=formatters), ("matplotlib.figure", "Figure"), chart),
    ):
        formatters.formatters[formatter.format_type] = formatter
        formatters.active_types = [*formatters.active_types, formatter.format_type]
        formatter.for_type_by_name(*target, show)
    get_ipython().run_line_magic("matplotlib", "inline")


_register()
del _register
