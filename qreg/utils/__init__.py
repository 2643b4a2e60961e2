"""Helpers independent of quantization: loggers, progress, tables, wording and atomic files."""
