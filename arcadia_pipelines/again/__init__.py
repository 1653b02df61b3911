"""What need not be done again: which tenants have to be computed anew, and which rows are as they were written.

Does not belong here: what becomes of an invoice that is computed again (billing/reconcile.py).
"""
