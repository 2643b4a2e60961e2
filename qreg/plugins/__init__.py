"""Plugins: the values that they return, how they are found, and what they supply."""
