from .compare import compare
from .comparison import Comparison
from .values import Entry

__all__ = ["Comparison", "Entry", "compare"]
