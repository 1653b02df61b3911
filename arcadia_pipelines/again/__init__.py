"""Who has to be computed again, and which rows can be left.

Does not belong here: what becomes of an invoice that is computed again (billing/reconcile.py).
"""
