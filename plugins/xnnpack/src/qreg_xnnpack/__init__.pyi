from .annotators import OP_TO_ANNOTATOR
from .config import get_symmetric_quantization_config

__all__ = ["OP_TO_ANNOTATOR", "get_symmetric_quantization_config"]
