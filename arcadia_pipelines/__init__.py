"""Arcadia's month-end engine: metered usage to quotes to tenant invoices."""
