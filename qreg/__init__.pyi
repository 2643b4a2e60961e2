from . import errors
from .annotators import patterns
from .bundles.bundle import Bundle
from .bundles.reading import load
from .comparison import Comparison, compare
from .generation.generate import generate, time_generation
from .generation.generated import Generated
from .pipeline.calibrate import calibrate, convert
from .pipeline.combine import combine
from .pipeline.explain import explain
from .pipeline.lower import lower
from .pipeline.prepare import prepare
from .pipeline.quantize import quantize
from .pipeline.result import Result
from .pipeline.verify import verify
from .plugins.backend_plugin import BackendPlugin, Extension
from .plugins.hookspecs import hookimpl
from .plugins.registry import Registry
from .plugins.types.algorithm import Algorithm, Calibration, Candidate, Change, Statistic
from .plugins.types.annotator import Annotate, Annotation, Annotator, Match, Matcher, Refusal, Rule
from .plugins.types.backend import (
    ALL_MODES,
    STATIC,
    WEIGHT,
    Backend,
    Files,
    Mode,
    Option,
    Requirement,
    Runner,
    SupportedConfig,
    Tool,
)
from .plugins.types.decision import Decision
from .plugins.types.interface import Interface, Port
from .plugins.types.program import Conversion, Lowered, LoweredOperator
from .quantizer.composed import ComposedQuantizer
from .quantizer.registry_quantizer import RegistryQuantizer, get_quantizer
from .recipes.recipe import Recipe, load_recipe
from .report.report import Report
from .tuning import Allocation, Trial, Tuned, allocate_bits, tune
from .version import __version__

__all__ = [
    "ALL_MODES",
    "STATIC",
    "WEIGHT",
    "Algorithm",
    "Allocation",
    "Annotate",
    "Annotation",
    "Annotator",
    "Backend",
    "BackendPlugin",
    "Bundle",
    "Calibration",
    "Candidate",
    "Change",
    "Comparison",
    "ComposedQuantizer",
    "Conversion",
    "Decision",
    "Extension",
    "Files",
    "Generated",
    "Interface",
    "Lowered",
    "LoweredOperator",
    "Match",
    "Matcher",
    "Mode",
    "Option",
    "Port",
    "Recipe",
    "Refusal",
    "Registry",
    "RegistryQuantizer",
    "Report",
    "Requirement",
    "Result",
    "Rule",
    "Runner",
    "Statistic",
    "SupportedConfig",
    "Tool",
    "Trial",
    "Tuned",
    "__version__",
    "allocate_bits",
    "calibrate",
    "combine",
    "compare",
    "convert",
    "errors",
    "explain",
    "generate",
    "get_quantizer",
    "hookimpl",
    "load",
    "load_recipe",
    "lower",
    "patterns",
    "prepare",
    "quantize",
    "time_generation",
    "tune",
    "verify",
]
