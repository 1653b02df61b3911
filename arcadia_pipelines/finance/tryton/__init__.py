"""Tryton as the ledger: over its JSON-RPC, and on its own terms."""
