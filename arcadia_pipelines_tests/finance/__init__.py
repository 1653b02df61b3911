"""What finance is told of invoices, by a receiver that misbehaves as real ones do."""
