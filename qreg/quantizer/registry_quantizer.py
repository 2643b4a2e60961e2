"""The torchao Quantizer that is made of the annotators in a registry."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from attrs import evolve
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer

from qreg.configs.named import made_config, made_configs
from qreg.configs.validation import check, equivalent, mode_of
from qreg.errors import (
    ConfigError,
    NothingQuantizedError,
    UnknownModuleError,
    described_call,
)
from qreg.graph.nodes import computes_tensors
from qreg.graph.provenance import mark, type_name
from qreg.plugins.operator_names import checked_operator, is_operator, operator_name
from qreg.plugins.registry import DEFAULT, Registry, installed
from qreg.plugins.types.backend import Mode
from qreg.plugins.types.decision import Decision
from qreg.quantizer.annotation_pass import annotated
from qreg.quantizer.checks import check_finite, check_supported, notes_on, warn_of_saturation
from qreg.quantizer.eligibility import LOOPS, NodeFilter
from qreg.quantizer.scopes import Choice, Level, Scopes
from qreg.quantizer.transforms import transformed, transformed_by_wrapped
from qreg.quantizer.wrapped import WrappedQuantizers

if TYPE_CHECKING:
    from typing_extensions import Self


Config: TypeAlias = str | QuantizationConfig | None
UnknownModules: TypeAlias = Literal["error", "warn"]


class UnknownModuleWarning(UserWarning):
    """A module name or type in a quantizer's scopes that no operator belongs to."""


class RegistryQuantizer(Quantizer):  # type: ignore[misc]
    """A torchao Quantizer made of all annotators for one backend, from any plugin.

    Use it with ``prepare_pt2e`` or ``prepare_qat_pt2e``. A config is a name that the backend knows,
    a ``QuantizationConfig``, or ``None`` to keep a scope in float. The setters return the
    quantizer. After ``annotate``, ``decisions`` has one entry for each operator of the graph, in
    the order of the graph.
    """

    def __init__(
        self,
        backend: str,
        config: Config = DEFAULT,
        *,
        registry: Registry | None = None,
        allow_float: bool = False,
        unknown_modules: UnknownModules = "error",
    ) -> None:
        """Create a quantizer with ``config`` as the global config.

        ``allow_float`` makes ``validate`` accept a graph in which nothing is quantized.
        ``unknown_modules`` selects an error or a warning for a module name or type that no operator
        belongs to.

        Raises ``UnknownNameError`` for an unknown backend or config, ``ConfigError`` for a config
        that the backend does not support, and, for a backend with a wrapped quantizer,
        ``BackendUnavailableError`` for missing packages.
        """
        super().__init__()
        self._registry = registry or installed()
        self._supplied = self._registry.backend(backend)
        self._backend = self._supplied.value
        if self._backend.quantizer:
            self._registry.check_installed(backend)  # a wrapped quantizer imports the packages
        self._keep: NodeFilter | None = None
        self.allow_float, self._unknown_modules = allow_float, unknown_modules
        self._start(Scopes())
        if config is not None:
            self.set_global(config)

    def _start(self, scopes: Scopes) -> None:
        """Set the scopes, and reset the state of a run to that ahead of annotation."""
        self._scopes = scopes
        self._wrapped = (
            WrappedQuantizers(self._backend.quantizer, self._supplied, scopes)
            if self._backend.quantizer
            else None
        )
        self._nested: WeakKeyDictionary[GraphModule, str] = WeakKeyDictionary()
        self.decisions: list[Decision] = []
        self._bodies_left = 0

    def for_one_run(self, *, allow_float: bool = False) -> Self:
        """Return a quantizer with the same scopes that shares no state with this one.

        ``allow_float`` accepts a graph in which nothing is quantized, even if this quantizer does
        not.
        """
        found = copy.copy(self)
        found.allow_float = self.allow_float or allow_float
        found._start(self._scopes.copy())
        return found

    @property
    def backend(self) -> str:
        return str(self._backend.name)

    @property
    def registry(self) -> Registry:
        return self._registry

    @property
    def scopes(self) -> Scopes:
        """A copy of the scopes that were set."""
        return self._scopes.copy()

    @property
    def filter_function(self) -> NodeFilter | None:
        return self._keep

    @property
    def unknown_modules(self) -> UnknownModules:
        return self._unknown_modules

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes of all configs that were set."""
        return frozenset(choice.mode for choice in self._scopes.choices() if choice.mode)

    def set_global(self, config: Config) -> Self:
        """Set the config for all operators that no other scope covers."""
        self._scopes.everywhere = self._choice("global", "", config)
        return self

    def set_module_name(self, module_name: str, config: Config) -> Self:
        """Set the config for a module and its submodules, by path: ``"blocks.0.conv"``."""
        self._scopes.names[module_name] = self._choice("name", module_name, config)
        return self

    def set_module_type(self, module_type: type | str, config: Config) -> Self:
        """Set the config for the modules of exactly this class, and their submodules."""
        name = type_name(module_type)
        self._scopes.types[name] = self._choice("type", name, config)
        return self

    def set_operator_type(self, operator: Any, config: Config) -> Self:
        """Set the config for the patterns that start from an operator.

        ``operator`` is an overload (``torch.ops.aten.add.Tensor``), a packet that stands for all
        its overloads (``torch.ops.aten.add``), or the name of either (``"aten.add.Tensor"``).
        Raises ``ConfigError`` for anything else.
        """
        name = checked_operator(operator)
        self._scopes.operators[name] = self._choice("operator", name, config)
        return self

    def set_operator(self, module_name: str, operator: Any, ordinal: int, config: Config) -> Self:
        """Set the config for one call of an operator, and the rest of the pattern with it.

        ``ordinal`` counts the calls of the operator in the module itself from 0, in the order of
        the graph. ``module``, ``operator`` and ``ordinal`` of a :class:`~qreg.Decision` are such an
        address. ``operator`` is as for :meth:`set_operator_type`. A call that the model does not
        have is an ``UnknownCallError``, which ``annotate`` or ``validate`` raises.

        A backend with a wrapped quantizer does not report its patterns: there, the scope applies to
        the operator alone.
        """
        if isinstance(ordinal, bool) or not isinstance(ordinal, int) or ordinal < 0:
            raise ConfigError(
                f"ordinal: it is {ordinal!r} (expected an integer from 0). Decisions have the "
                "ordinals of a model's operators."
            )
        address = module_name, checked_operator(operator), ordinal
        self._scopes.calls[address] = self._choice("call", described_call(*address), config)
        return self

    def set_filter_function(self, keep: NodeFilter | None) -> Self:
        """Quantize only patterns for whose operators ``keep`` returns True, within the scopes."""
        self._keep = keep
        return self

    def _choice(self, level: Level, scope: str, config: Config) -> Choice:
        self._scopes.forget()
        if config is None:
            return Choice(level, scope, "float", None, None)
        named = isinstance(config, str)
        value = made_config(self._registry, self.backend, config) if named else check(config)
        check_supported(self._supplied, config, value)
        warn_of_saturation(self._backend, config, value)
        return Choice(level, scope, self._label(config), value, mode_of(value))

    def kept_in_float(self, model: GraphModule) -> frozenset[str]:
        """Return the names of the operators of a graph that no scope quantizes."""
        operators = filter(computes_tensors, model.graph.nodes)
        choices = {node.name: self._scopes.choice(node) for node in operators}
        return frozenset(
            name for name, found in choices.items() if found is None or found.config is None
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for reports on the effects of the processor on the configs that were set."""
        return notes_on(self._backend, [each.config for each in self._scopes.choices()])

    def _label(self, config: str | QuantizationConfig) -> str:
        if isinstance(config, str):
            return str(self._registry.config(self.backend, config).name)
        known = made_configs(self._registry, self.backend).items()
        return next((name for name, each in known if equivalent(each, config)), "custom")

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        """Run the backend's transforms on the graph.

        Without QAT, constants and batch norms are folded first, unless :func:`qreg.prepare` has
        done so. Operators whose result is unused are removed, since observing them is useless. The
        buffers that the graph writes to are copied, because calibration runs the graph.
        """
        targets = {
            operator_name(target)
            for each in self._registry.annotators(self.backend)
            for target in each.value.targets
        }
        model = transformed(model, self._supplied, self.modes, targets)
        return (
            transformed_by_wrapped(model, self._wrapped, self.backend, trained="qat" in self.modes)
            if self._wrapped
            else model
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotate the graph in place.

        torchao calls this method again for the bodies of ``scan`` and ``while_loop``. The decisions
        on their operators are appended to those of the model, under the name of the body, a dot,
        and the name of the node.

        Raises ``UnknownModuleError`` for a module name or type that no operator belongs to, and
        issues an ``UnknownOperatorWarning`` for an operator that the graph does not have. An
        annotator that fails is skipped with an ``AnnotatorWarning``; if the registry is strict, its
        ``AnnotatorError`` is raised instead.
        """
        prefix = f"{self._nested[model]}." if model in self._nested else ""
        if prefix:
            self._scopes.ordinals.resume(model.graph)
        else:
            self._scopes.ordinals.start(model.graph)
            self._check_scopes(model)
            self.decisions, self._bodies_left = [], 0
        mark(model.graph, prefix)
        self._scopes.forget()
        decisions = annotated(
            model,
            self._registry.annotators(self.backend),
            self._scopes,
            strict=self._registry.switches.strict,
            backend=self.backend,
            dtypes=self._backend.dtypes,
            keep=self._keep,
        )
        if self._wrapped:
            decisions = self._wrapped.annotate(model, decisions, self._keep)
        self.decisions += [_prefixed(each, prefix) for each in decisions] if prefix else decisions
        return model

    def _check_scopes(self, model: GraphModule) -> None:
        bodies = [(each, name) for name, each in model.named_modules() if each is not model]
        self._nested = WeakKeyDictionary(
            {each: name for each, name in bodies if isinstance(each, GraphModule)}
        )
        for error in self._scopes.unknown(_graph_modules(model)):
            self._report_unknown(error)
        if not _loops(model):  # else the bodies are annotated later
            self._check_calls()
        for unused in self._scopes.unused(_graph_modules(model)):
            warnings.warn(unused, stacklevel=3)

    def _check_calls(self) -> None:
        for error in self._scopes.unknown_calls():
            self._report_unknown(error)

    def _report_unknown(self, error: UnknownModuleError) -> None:
        if self._unknown_modules == "error":
            raise error
        warnings.warn(str(error), UnknownModuleWarning, stacklevel=2)

    def validate(self, model: GraphModule) -> None:
        """Check the annotated graph.

        Raises ``InputError`` for a weight that contains NaN or infinity, which has no range, and
        ``NothingQuantizedError`` if no operator is quantized, unless ``allow_float`` is set.
        """
        check_finite(model)
        if self._wrapped:
            self._wrapped.validate(model)
        self._bodies_left += _loops(model) - (model in self._nested)
        if self._bodies_left:  # torchao annotates the body of a loop later
            return
        if model in self._nested:
            self._check_calls()
        if self.allow_float:
            return
        if not any(decision.quantized for decision in self.decisions):
            raise NothingQuantizedError(
                [f"{decision.operator}: {decision.reason}" for decision in self.decisions]
            )

    def prepare_obs_or_fq_callback(
        self, model: GraphModule, edge_or_node_to_obs_or_fq: dict[Any, Any]
    ) -> None:
        """Let a wrapped quantizer of the backend adjust its observers."""
        if self._wrapped:
            self._wrapped.prepare_obs_or_fq_callback(model, edge_or_node_to_obs_or_fq)


def _prefixed(decision: Decision, prefix: str) -> Decision:
    pattern = tuple(f"{prefix}{name}" for name in decision.pattern)
    return evolve(decision, node=f"{prefix}{decision.node}", pattern=pattern)


def _loops(model: GraphModule) -> int:
    return sum(node.target in LOOPS for node in model.graph.nodes)


def _graph_modules(model: GraphModule) -> Iterator[GraphModule]:
    return (module for module in model.modules() if isinstance(module, GraphModule))


def get_quantizer(
    backend: str,
    config: Config = DEFAULT,
    *,
    registry: Registry | None = None,
    allow_float: bool = False,
    unknown_modules: UnknownModules = "error",
) -> RegistryQuantizer:
    """Return a quantizer for a backend, ready for ``prepare_pt2e``.

    ``config`` is the global config: a name, a ``QuantizationConfig``, or None to start without one.
    The other arguments are those of :class:`RegistryQuantizer`.

    Raises ``UnknownNameError`` for an unknown backend or config, and ``PluginError`` for a backend
    whose plugin is broken.
    """
    return RegistryQuantizer(
        backend,
        config,
        registry=registry,
        allow_float=allow_float,
        unknown_modules=unknown_modules,
    )


def keep_in_float(quantizer: RegistryQuantizer, names: Iterable[str]) -> RegistryQuantizer:
    """Keep modules (by path) and operators (by name) in float, and return the quantizer.

    Raises ``ConfigError`` for an operator that torch does not have. A module that the model does
    not have is rejected by ``annotate``.
    """
    for name in names:
        if is_operator(name) or name.startswith("aten."):
            quantizer.set_operator_type(name, None)
        else:
            quantizer.set_module_name(name, None)
    return quantizer
