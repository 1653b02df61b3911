"""What happened in the storm, written down by every process as it happens: one JSON object a line.

A line is appended in one write, so that a process that is killed leaves whole lines only.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

DONE, REFUSED, FAILED, KILLED, UNTOLD = "done", "refused", "failed", "killed", "untold"
"""How an act ended; untold: the command line did not say in one line why not."""
_NAMES = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|INV-[\d-]+|\b20\d\d-\d\d(-\d\d)?\b|\btenant-\d+\b|\b\d+(\.\d+)?\b"
)
_LONGEST = 170


class Entry(NamedTuple):
    """Who did what, how it ended, why not, and what is to be looked at afterwards."""

    who: str
    what: str
    outcome: str
    reason: str = ""
    noted: Any = None


class Journal:
    """The file of it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, entry: Entry) -> None:
        """Append it."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (json.dumps(entry) + "\n").encode())
        finally:
            os.close(descriptor)

    def read(self) -> list[Entry]:
        """All entries, in the order in which they were written."""
        return [Entry(*json.loads(line)) for line in self._file.read_text().splitlines()]


def in_one_line(error: BaseException | str) -> str:
    """The first line of what it says."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]


def reasons(entries: list[Entry]) -> Counter[str]:
    """How often each reason was given, whatever month, invoice or process it named."""
    return Counter(_NAMES.sub("*", entry.reason)[:_LONGEST] for entry in entries if entry.reason)
