from . import errors, patterns
from .backend_plugin import BackendPlugin, Extension
from .calibration import calibrate, convert
from .comparison import Comparison, compare
from .composed import ComposedQuantizer
from .explanation import explain
from .hookspecs import hookimpl
from .model import (
    Annotation,
    Annotator,
    Backend,
    Conversion,
    Decision,
    Files,
    Lowered,
    LoweredOperator,
    Match,
    Option,
    Refusal,
    Requirement,
    SupportedConfig,
    Tool,
)
from .pipeline import Result, lower, quantize
from .preparing import prepare
from .quantizer import RegistryQuantizer, get_quantizer
from .reference import verify
from .registry import Registry
from .report import Report

__all__ = [
    "Annotation",
    "Annotator",
    "Backend",
    "BackendPlugin",
    "Comparison",
    "ComposedQuantizer",
    "Conversion",
    "Decision",
    "Extension",
    "Files",
    "Lowered",
    "LoweredOperator",
    "Match",
    "Option",
    "Refusal",
    "Registry",
    "RegistryQuantizer",
    "Report",
    "Requirement",
    "Result",
    "SupportedConfig",
    "Tool",
    "calibrate",
    "compare",
    "convert",
    "errors",
    "explain",
    "get_quantizer",
    "hookimpl",
    "lower",
    "patterns",
    "prepare",
    "quantize",
    "verify",
]
