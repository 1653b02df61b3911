"""What must hold of a month: each audit a query of offenders, written apart from the code that it watches."""
