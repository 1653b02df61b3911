"""A month as files for other programs: FOCUS, and CSV in which a spreadsheet runs no formula."""
