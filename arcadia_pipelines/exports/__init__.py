"""A month as files for other programs: FOCUS, and text that no spreadsheet runs."""
