from .annotators import OP_TO_ANNOTATOR
from .cached_attention import use_custom_attention
from .config import get_groupwise_quantization_config, get_symmetric_quantization_config
from .quantizer import (
    XNNPACKQuantizer,
    get_module_name_filter,
    get_module_type_filter,
    propagate_annotation,
)
from .transforms import scalars_to_attributes

__all__ = [
    "OP_TO_ANNOTATOR",
    "XNNPACKQuantizer",
    "get_groupwise_quantization_config",
    "get_module_name_filter",
    "get_module_type_filter",
    "get_symmetric_quantization_config",
    "propagate_annotation",
    "scalars_to_attributes",
    "use_custom_attention",
]
