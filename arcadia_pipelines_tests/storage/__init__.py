"""Tests of SQL in and out."""
