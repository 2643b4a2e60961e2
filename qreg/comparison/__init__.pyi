from .compare import compare
from .values import Comparison, Entry

__all__ = ["Comparison", "Entry", "compare"]
