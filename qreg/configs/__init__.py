"""Create quantization configs, validate them, and determine their modes."""
