"""Observers, and how they choose ranges."""
