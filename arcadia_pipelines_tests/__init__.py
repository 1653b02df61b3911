"""The tests: examples with numbers worked by hand, on a real PostgreSQL and through real Dagster runs."""
