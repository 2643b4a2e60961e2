from .tune import tune
from .tuned import Tuned
from .values import Move, Place, Trial, Variant

__all__ = ["Move", "Place", "Trial", "Tuned", "Variant", "tune"]
