"""Arcadia's month-end engine: metered usage to quotes to tenant invoices."""

import os
from pathlib import Path

try:
    Path.home()
except (
    RuntimeError
):  # a user of whom the system knows nothing, as in a container: altair cannot be imported without one
    os.environ["HOME"] = "/"
