"""Quantization configs: how they are made, and what they mean."""
