"""Weights of an ONNX file, for a network that is written in torch with its layers in that order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

# Names that Paddle's exporter gives to constants that are not weights.
HELPERS = ("p2o.", "Constant@", "fill_constant")


@frozen
class Weights:
    """The weights of a file in the order in which its nodes read them, and its metadata."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def weights(path: Path) -> Weights:
    """Read the constants of an ONNX file that its nodes take as weights."""
    import onnx

    model = onnx.load(path)
    metadata = {each.key: each.value for each in model.metadata_props}
    return Weights(tuple(_read(model.graph)), metadata)


def _read(graph: Any) -> Iterator[Tensor]:
    from onnx import numpy_helper

    known = {}
    for node in graph.node:
        if node.op_type == "Constant":
            known[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        for name in node.input:
            if name in known and not name.startswith(HELPERS):
                yield torch.tensor(numpy_helper.to_array(known[name]))


def load_in_order(network: nn.Module, tensors: tuple[Tensor, ...]) -> None:
    """Copy weights to a network whose layers were made in the order of the file.

    ONNX has the weights of a linear layer as (inputs, outputs), torch as (outputs, inputs). Raises
    ``ValueError`` if a shape or the number of weights differs.
    """
    linear = {id(each.weight) for each in network.modules() if isinstance(each, nn.Linear)}
    state = network.state_dict(keep_vars=True)
    own = {name: each for name, each in state.items() if each.is_floating_point()}
    with torch.no_grad():
        for (name, wanted), given in zip(own.items(), tensors, strict=True):
            found = given.T if id(wanted) in linear else given
            if found.shape != wanted.shape:
                raise ValueError(f"{name}: shape {tuple(found.shape)}, not {tuple(wanted.shape)}")
            wanted.copy_(found)
