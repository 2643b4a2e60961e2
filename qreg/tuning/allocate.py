"""Give each layer as many bits as it needs, within a size for all weights together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch.export import ExportedProgram

from qreg.analysis.sensitivity import PatternNoise, sensitivity
from qreg.configs.named import made_config
from qreg.errors import ConfigError, InputError, QregError, several
from qreg.graph.values import value_of
from qreg.inputs.batches import check_batches, kept
from qreg.inputs.signature import Signature
from qreg.pipeline.arguments import public_function
from qreg.pipeline.precision import to_float32
from qreg.pipeline.run import Graphs, Run
from qreg.pipeline.source import Data
from qreg.plugins.registry import DEFAULT_BACKEND, Registry, installed
from qreg.programs.export import exported
from qreg.programs.lowering import target
from qreg.quantizer.registry_quantizer import RegistryQuantizer, keep_in_float
from qreg.tuning.allocation import Weight, allocated, average_bits, check_bits, stored_bits
from qreg.tuning.patterns import power
from qreg.tuning.values import Place
from qreg.utils.progress import Stages

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg.plugins.types.decision import Decision


@frozen
class Allocation:
    """The config of each weight.

    ``quantizer`` has them as scopes, for :func:`qreg.quantize`. ``configs`` are in the order of
    ``weights``, and ``bits`` is the average size of an element of the weights in bits, with scales.
    ``notes`` are the configs that the model does not support, with the reasons.
    """

    quantizer: RegistryQuantizer
    weights: tuple[Weight, ...]
    configs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        """The bits per element of the weights on average."""
        return average_bits(self.weights, self.configs)

    @property
    def by_config(self) -> dict[str, int]:
        """The number of weights in each config."""
        return {name: self.configs.count(name) for name in dict.fromkeys(sorted(self.configs))}

    def __str__(self) -> str:
        counted = ", ".join(f"{count} in {name}" for name, count in self.by_config.items())
        return f"{self.bits:.2f} bits per weight: {counted}"


@public_function
def allocate_bits(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    bits: float,
    calibration: Iterable[Any],
    backend: str = DEFAULT_BACKEND,
    configs: Sequence[str] | None = None,
    keep_in_float: Sequence[str] = (),
    max_batches: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    dynamic_shapes: Any = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Allocation:
    """Choose a config for each layer, with at most ``bits`` per weight on average.

    The noise that each layer alone adds to the outputs is measured in each config, see
    :mod:`qreg.analysis.sensitivity`. An integer program chooses the configs whose noises add up to
    the least. The result has a quantizer for :func:`qreg.quantize`.

    The arguments that are not listed below are those of :func:`qreg.quantize`. ``calibration`` is
    kept in memory.

    Args:
        bits: the bits of an element of the weights on average. Scales count too: 4-bit values in
            groups of 32 have 4.5 bits if the backend stores scales in 16 bits, and 5 if in 32;
            8-bit values per channel have a little over 8.
        configs: the names of the configs to choose from; by default all of the backend that are
            dynamic or quantize weights alone.
        keep_in_float: modules (by path) and operators (by name) to keep in float. Their weights do
            not count.

    Raises:
        InputError: for ``bits`` that are not a positive number, or that no choice of configs
            reaches.
        ConfigError: if none of the configs quantizes a weight of the model.
        QregError: as ``quantize``.
    """
    check_bits(bits)
    registry = registry or installed()
    search = _Search(registry, backend, several("keep_in_float", keep_in_float))
    names = search.names(configs)
    check_batches(calibration)
    given = to_float32(model, example_inputs, transform, [registry.backend(backend).value])
    measured, notes = dict[str, Mapping[str, _Measured]](), list[str]()
    with Stages(progress) as stages:
        with stages.stage("export"):
            program, _ = exported(given.model, given.example_inputs, dynamic_shapes)
        batches = kept(calibration, Signature.of_program(program), max_batches, given.transform)
        for name in names:
            try:
                with stages.stage(f"measure {name}"):
                    measured[name] = dict(search.measured(name, program, batches))
            except QregError as error:
                notes.append(f"config {name!r} was left out: {error}")
    weights = _joined(measured)
    if not weights:
        why = " ".join(notes) or "The model has no weight of known noise."
        raise ConfigError(f"configs: none quantizes a weight, of {', '.join(names)}. {why}")
    chosen = allocated(weights, bits)
    quantizer = search.quantizer(None)
    for weight, name in zip(weights, chosen, strict=True):
        for each in weight.places:
            quantizer.set_operator(each.module, each.operator, each.ordinal, name)
    return Allocation(quantizer, tuple(weights), tuple(chosen), tuple(notes))


@frozen
class _Search:
    """A backend, and what the user keeps in float."""

    registry: Registry
    backend: str
    kept: tuple[str, ...]

    def names(self, configs: Sequence[str] | None) -> list[str]:
        """Return the names of the configs to choose from, in full and each once."""
        if configs is not None:
            given = several("configs", configs)
            found = [self.registry.config(self.backend, name).name for name in given]
        else:
            known = self.registry.configs(self.backend)
            modes = {name: self.registry.config(self.backend, name).mode for name in known}
            found = [name for name, mode in modes.items() if mode in ("dynamic", "weight")]
        if not found:
            raise InputError(
                f"configs: {self.backend!r} has no dynamic config to choose from (expected names). "
                "Pass the names of others."
            )
        return list(dict.fromkeys(found))

    def quantizer(self, config: str | None) -> RegistryQuantizer:
        made = RegistryQuantizer(self.backend, config, registry=self.registry)
        return keep_in_float(made, self.kept)

    def measured(
        self, name: str, program: ExportedProgram, batches: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[str, _Measured]]:
        """Yield the quantized weights in a config by name."""
        goal = target(self.registry, self.backend)
        run = Run(self.quantizer(name).for_one_run(), goal, None, Stages(False))
        source = run.export(program, batches[0], None)
        graphs = run.quantize(source, Data(batches, None))
        group_scale = self.registry.config(self.backend, name).group_scale_bits
        return _measured(graphs, made_config(self.registry, self.backend, name), group_scale)


@frozen
class _Measured:
    """A weight in one config."""

    places: frozenset[Place]
    elements: int
    bits: int
    noise: float


def _measured(
    graphs: Graphs, config: QuantizationConfig, group_scale: int
) -> Iterator[tuple[str, _Measured]]:
    """Yield the quantized weights of a model by name, each with the noise of all its readers.

    The scale of a group takes ``group_scale`` bits.

    A weight of unknown noise is left out, so that it stays in float.
    """
    decisions = {each.node: each for each in graphs.quantizer.decisions}
    nodes = {node.name: node for node in graphs.reference.graph.nodes}
    every = list(decisions.values())
    readers: dict[Node, list[PatternNoise]] = defaultdict(list)
    for each in sensitivity(graphs.reference, graphs.converted, every, graphs.samples):
        # Operators in the body of a loop are not in this graph; their noise is not known either.
        for constant in _matrices(nodes[name] for name in each.pattern if name in nodes):
            readers[constant].append(each)
    for constant, found in readers.items():
        if any(each.sqnr is None for each in found):
            continue
        shape = value_of(graphs.reference, constant).shape
        yield (
            str(constant.target),
            _Measured(
                places=frozenset(_place(decisions[each.pattern[0]]) for each in found),
                elements=shape.numel(),
                bits=stored_bits(config.weight, shape, group_scale),
                noise=sum(power(each.sqnr) for each in found),
            ),
        )


def _matrices(pattern: Iterable[Node]) -> list[Node]:
    """Return the constants that a pattern reads as a weight: those of two dimensions or more."""
    read = [each for node in pattern for each in node.all_input_nodes if each.op == "get_attr"]
    return [each for each in dict.fromkeys(read) if each.meta["val"].dim() > 1]


def _place(decision: Decision) -> Place:
    return Place(decision.module, decision.operator, decision.ordinal)


def _joined(measured: Mapping[str, Mapping[str, _Measured]]) -> list[Weight]:
    """Return the weights that any config quantizes, with the configs of all their readers."""
    found: dict[str, dict[str, _Measured]] = defaultdict(dict)
    for config, weights in measured.items():
        for name, each in weights.items():
            found[name][config] = each
    return [made for each in found.values() if (made := _weight(each)).configs]


def _weight(by_config: Mapping[str, _Measured]) -> Weight:
    places = frozenset().union(*(each.places for each in by_config.values()))
    whole = {name: each for name, each in by_config.items() if each.places == places}
    return Weight(
        places=tuple(sorted(places, key=lambda each: (each.module, each.operator, each.ordinal))),
        elements=next(iter(by_config.values())).elements,
        bits={name: each.bits for name, each in whole.items()},
        noises={name: each.noise for name, each in whole.items()},
    )
