"""Finance is Tryton: `make test-tryton` installs it."""
