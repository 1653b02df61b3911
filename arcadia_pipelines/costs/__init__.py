"""The provider's bills, the rates of exchange, and the allocation of every cent of a bill. Cost, never revenue."""
