"""The dashboard's files: a page, its style, its script, Vega, and the charts' specifications. No data is in them.

What the page shows it reads from /api/v1/costs with the token of whoever signed in; this module asks nobody.
Belongs here: how the files are served. Does not: what is on the page (static/), the charts (charts.py), the data
(costs.py).
"""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
