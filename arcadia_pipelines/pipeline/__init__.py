"""Dagster, and nothing else: assets, checks, jobs, schedules, sensors, its instance and its UI."""
