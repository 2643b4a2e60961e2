from . import errors, patterns
from .calibration import calibrate, convert
from .composed import ComposedQuantizer
from .hookspecs import hookimpl
from .model import (
    Annotation,
    Annotator,
    Backend,
    Decision,
    Lowered,
    Match,
    Refusal,
    Requirement,
    SupportedConfig,
)
from .pipeline import Result, lower, quantize
from .quantizer import RegistryQuantizer, get_quantizer
from .registry import Registry

__all__ = [
    "Annotation",
    "Annotator",
    "Backend",
    "ComposedQuantizer",
    "Decision",
    "Lowered",
    "Match",
    "Refusal",
    "Registry",
    "RegistryQuantizer",
    "Requirement",
    "Result",
    "SupportedConfig",
    "calibrate",
    "convert",
    "errors",
    "get_quantizer",
    "hookimpl",
    "lower",
    "patterns",
    "quantize",
]
