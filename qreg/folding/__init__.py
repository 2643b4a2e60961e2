"""Compute values that depend on parameters alone once, ahead of prepare."""
