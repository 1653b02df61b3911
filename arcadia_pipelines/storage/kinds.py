"""The kinds of invoice lines in SQL: each a list to stand behind `in`."""

from arcadia_pipelines.billing import invoice, quote


def _listed(kinds: tuple[str, ...]) -> str:
    return "('" + "', '".join(kinds) + "')"


SUPPLY = _listed(quote.SUPPLY)
"""What is supplied: the kinds of quote lines."""
CHARGES = _listed(invoice.CHARGES)
"""What a month charges of its own: what is supplied, discounts and commitments."""
