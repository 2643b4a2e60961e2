"""Exported and lowered programs: recognition, export, lowering, loading, and files."""
