"""Queries and rewrites of fx graphs."""
