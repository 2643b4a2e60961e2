"""Annotated graphs of small modules, with assertions on the decisions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from attrs import field, frozen
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import QuantizationSpec, SharedQuantizationSpec

from qreg.graph.compat import annotation_of, made_by
from qreg.inputs.specs import arguments
from qreg.plugins.operator_names import operator_name
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.plugins.types.decision import Decision
from qreg.programs.copying import module_of
from qreg.programs.export import export
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer


@frozen
class Annotated:
    """An annotated graph, and the Decision on each of its operators.

    An operator is named as torch prints it, with or without its namespace and overload:
    ``"aten.addmm.default"``, ``"aten.addmm"`` or ``"addmm"``.
    """

    graph_module: GraphModule = field(repr=False)
    decisions: tuple[Decision, ...]

    def of(self, operator: str) -> list[Decision]:
        """Return the decisions on an operator. Raises ``AssertionError`` if there are none."""
        found = [each for each in self.decisions if _is_called(each.operator, operator)]
        assert found, f"the graph has no {operator}, only\n{self}"
        return found

    def assert_quantized(self, operator: str, *, by: str | None = None) -> None:
        """Assert that every ``operator`` is quantized, and if ``by`` is set, by that annotator."""
        for each in self.of(operator):
            assert each.quantized, f"{each.node} stays in float: {each.reason}"
            right = by in (None, each.annotator)
            assert right, f"{each.node} is quantized by {each.annotator!r}, not by {by!r}"

    def assert_float(self, operator: str, *, because: str = "") -> None:
        """Assert that every ``operator`` stays in float, for a reason with ``because`` in it."""
        for each in self.of(operator):
            assert not each.quantized, f"{each.node} is quantized by {each.annotator!r}"
            assert because in each.reason, f"{each.node} stays in float because: {each.reason}"

    def __str__(self) -> str:
        return "\n".join(
            f"  {each.node} ({each.operator}): {each.status}, {each.reason}"
            for each in self.decisions
        )


def _is_called(target: str, name: str) -> bool:
    namespace, operator, overload = operator_name(target).split(".")
    return name in (operator, f"{namespace}.{operator}", f"{namespace}.{operator}.{overload}")


def graph_of(
    module: torch.nn.Module, inputs: Any, *, train: bool = False, dynamic_shapes: Any = None
) -> GraphModule:
    """Return the graph of a copy of a module; ``train`` exports in train mode, for QAT."""
    copied, example = copy.deepcopy(module), arguments(inputs)
    if train:
        program = torch.export.export(copied.train(), example, dynamic_shapes=dynamic_shapes)
    else:
        program = export(copied, example, dynamic_shapes)
    graph_module = module_of(program)
    return graph_module


def annotate(
    module: torch.nn.Module,
    inputs: Any,
    *,
    backend: str = DEFAULT_BACKEND,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    registry: Registry | None = None,
    dynamic_shapes: Any = None,
) -> Annotated:
    """Export a module and annotate its graph, as ``prepare_pt2e`` would.

    ``quantizer`` allows custom scopes, and replaces ``backend`` and ``config``.
    """
    quantizer = quantizer or RegistryQuantizer(backend, config, registry=registry)
    train = "qat" in quantizer.modes
    graph_module = graph_of(module, inputs, train=train, dynamic_shapes=dynamic_shapes)
    return annotated(graph_module, quantizer)


def annotated(graph_module: GraphModule, quantizer: RegistryQuantizer) -> Annotated:
    """Annotate an exported graph in place, and return it with the decisions."""
    graph_module = quantizer.annotate(quantizer.transform_for_annotation(graph_module))
    return Annotated(graph_module, tuple(quantizer.decisions))


def described(graph_module: GraphModule) -> dict[str, Any]:
    """Return the annotations of a graph by node, as values that compare by content."""
    found = {node.name: annotation_of(node) for node in graph_module.graph.nodes}
    return {
        name: (
            {source.name: _meaning(spec) for source, spec in each.input_qspec_map.items()},
            _meaning(each.output_qspec),
        )
        for name, each in found.items()
        if each is not None
    }


def _meaning(spec: Any) -> Any:
    if isinstance(spec, SharedQuantizationSpec):
        return "shared with", str(spec.edge_or_node)
    if not isinstance(spec, QuantizationSpec):
        return str(spec)
    factory, given = made_by(spec.observer_or_fake_quant_ctr)
    said = {key: value for key, value in vars(spec).items() if key != "observer_or_fake_quant_ctr"}
    return said, factory, str(given)


def structure(graph_module: GraphModule) -> list[str]:
    """Return what a graph computes in comparable form: one line for each node."""
    return [
        f"{node.name} = {node.op} {node.target} {node.args} {node.kwargs}"
        for node in graph_module.graph.nodes
    ]
