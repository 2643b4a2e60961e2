"""Loggers, progress, tables, wording and atomic files: what knows nothing of quantization."""
