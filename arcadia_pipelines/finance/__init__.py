"""Finance: what it is told of invoices, and whether it has them; see docs/finance.md."""
