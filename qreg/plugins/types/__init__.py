"""The types of the values that plugins return. They do not import torch."""
