"""The domain: pure functions on Arrow-typed pandas columns. No Dagster, no SQL, no clock, no I/O."""
