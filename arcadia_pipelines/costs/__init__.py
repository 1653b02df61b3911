"""The provider's bills, the rates of exchange, and whose each cent of a bill is. Cost, never revenue."""
