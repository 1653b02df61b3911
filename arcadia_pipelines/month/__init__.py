"""A month's computation: what is read, computed and written, and the price of a deployment that does not exist yet."""
