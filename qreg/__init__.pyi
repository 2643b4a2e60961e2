from . import errors, patterns
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
    "Decision",
    "Lowered",
    "Match",
    "Refusal",
    "Registry",
    "RegistryQuantizer",
    "Requirement",
    "Result",
    "SupportedConfig",
    "errors",
    "get_quantizer",
    "hookimpl",
    "lower",
    "patterns",
    "quantize",
]
