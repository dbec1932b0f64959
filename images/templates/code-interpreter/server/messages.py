"""What kernels and loops tell, as the protocol's messages."""

import time

# Media types and the fields of a result that carry them.
FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}


def shown(event: dict) -> dict:
    """What a loop tells as the protocol's message."""
    if event["type"] == "result":
        return {"type": "result", **result_of(event["data"]), "is_main_result": True}
    if event["type"] in ("stdout", "stderr"):
        return {**event, "timestamp": time.time_ns()}
    return event


def event_of(kind: str, content: dict) -> dict | None:
    """A message of the Jupyter protocol as one of ours; None for what nobody reads."""
    if kind == "stream":
        return {"type": content["name"], "text": content["text"], "timestamp": time.time_ns()}
    if kind in ("display_data", "execute_result"):
        return {"type": "result", **result_of(content["data"]), "is_main_result": kind == "execute_result"}
    if kind == "error":
        traceback = "\n".join(content["traceback"])
        return {"type": "error", "name": content["ename"], "value": content["evalue"], "traceback": traceback}
    if kind == "execute_input":
        return {"type": "number_of_executions", "execution_count": content["execution_count"]}
    return None


def result_of(data: dict) -> dict:
    """The representations of one value by field; those without a field of their own are `extra`."""
    result: dict = {}
    extra = {}
    for media, value in data.items():
        name = FIELDS.get(media)
        if name is None:
            extra[media] = value
        else:
            result[name] = quoteless(value) if name == "text" else value
    if extra:
        result["extra"] = extra
    return result


def quoteless(text: str) -> str:
    """A text's own characters: the protocol shows `'a'` as `a`."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
