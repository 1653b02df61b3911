"""Invoices as documents: the tax invoice and the adjustment note, as their readers get them."""
