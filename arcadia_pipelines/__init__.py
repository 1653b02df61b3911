"""Arcadia's month-end engine: metered usage to quotes to tenant invoices."""

import os
from pathlib import Path

try:
    Path.home()
except RuntimeError:  # a user whom the system does not know, as in a container; altair's import asks for the home
    os.environ["HOME"] = "/"
