"""The assets, one module each: read, compute, replace the month, report. Thin."""
