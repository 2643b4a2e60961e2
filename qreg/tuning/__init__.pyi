from .allocate import Allocation, allocate_bits
from .tune import tune
from .tuned import Tuned
from .values import Move, Place, Trial, Variant

__all__ = ["Allocation", "Move", "Place", "Trial", "Tuned", "Variant", "allocate_bits", "tune"]
