"""The month end in a storm, and whether a cent went wrong: `make chaos`. See __main__.py."""
