"""Arcadia's month-end engine: metered usage to quotes to tenant invoices."""

import os
from pathlib import Path

try:
    Path.home()
except RuntimeError:  # a user without an account, as in a container; importing altair needs a home folder
    os.environ["HOME"] = "/"
