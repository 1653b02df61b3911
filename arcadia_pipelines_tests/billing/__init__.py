"""Tests of the domain: columns in, columns out."""
