"""Settings of every Python kernel."""

c = get_config()  # noqa: F821
# A traceback is read by programs.
c.InteractiveShell.colors = "NoColor"
c.PlainTextFormatter.max_seq_length = 0
# Nobody looks into the history of a sandbox that is gone, and each cell would wait for its disk.
c.HistoryManager.hist_file = ":memory:"
