from . import errors, patterns
from .calibration import calibrate, convert
from .composed import ComposedQuantizer
from .explanation import explain
from .hookspecs import hookimpl
from .model import (
    Annotation,
    Annotator,
    Backend,
    Conversion,
    Decision,
    Lowered,
    LoweredOperator,
    Match,
    Refusal,
    Requirement,
    SupportedConfig,
)
from .pipeline import Result, lower, quantize
from .quantizer import RegistryQuantizer, get_quantizer
from .reference import verify
from .registry import Registry
from .report import Report

__all__ = [
    "Annotation",
    "Annotator",
    "Backend",
    "ComposedQuantizer",
    "Conversion",
    "Decision",
    "Lowered",
    "LoweredOperator",
    "Match",
    "Refusal",
    "Registry",
    "RegistryQuantizer",
    "Report",
    "Requirement",
    "Result",
    "SupportedConfig",
    "calibrate",
    "convert",
    "errors",
    "explain",
    "get_quantizer",
    "hookimpl",
    "lower",
    "patterns",
    "quantize",
    "verify",
]
