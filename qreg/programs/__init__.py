"""Exported and lowered programs: inputs, export, lowering, loading, and files."""
