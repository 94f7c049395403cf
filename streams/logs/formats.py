"""What a log line looks like: text for people, JSON for machines. One line per record, whatever a message quotes."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from streams.logs.place import place
from streams.text import visible, visible_json


class TextLines(logging.Formatter):
    """Time, level, worker, logger, message and, in brackets, the record. What is not printable is escaped; tracebacks are indented."""

    def __init__(self, worker: str) -> None:
        """Name `worker` on each line; "" for none."""
        name = visible(worker).replace("%", "%%")
        super().__init__(f"%(asctime)s %(levelname)-7s {name + ' ' if name else ''}%(name)s: %(message)s")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        at = place()
        record.message = visible(record.message) + (f" [{visible(at)}]" if at else "")
        return super().formatMessage(record)

    @override
    def formatException(self, ei: Any) -> str:
        return "\n".join("  " + visible(line) for line in super().formatException(ei).split("\n"))

    @override
    def formatStack(self, stack_info: str) -> str:
        return "\n".join("  " + visible(line) for line in super().formatStack(stack_info).split("\n"))


class JsonLines(logging.Formatter):
    """An object per record: time, level, worker, logger, message; topic, partition, offset and event_id where there is a record."""

    def __init__(self, worker: str) -> None:
        """Name `worker` on each line; "" for none."""
        super().__init__()
        self._worker = worker

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "worker": self._worker,
            "logger": record.name,
            "message": record.getMessage(),
        }
        at = place()
        if at is not None:
            record_of = at.record
            line |= {"topic": record_of.topic, "partition": record_of.partition, "offset": record_of.offset}
            line |= {"event_id": at.event_id, "trace_id": at.trace_id}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return visible_json(json.dumps({name: value for name, value in line.items() if value != ""}, default=str))
