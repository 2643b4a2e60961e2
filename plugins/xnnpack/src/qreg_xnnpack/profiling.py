"""How long each operator of a program takes, by running it alone.

The runtime's own event tracing is not built into the packages of executorch 1.4.1. So the program
is lowered once more with a delegate for every operator, and each of these is a program that can be
run and timed. What that misses is what only happens between operators; what it adds is, for
operators on images, the change of layout at either end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qreg.backends.inputs import TensorSpec
from qreg.graph.provenance import origin
from qreg_xnnpack.compat import delegates_of
from qreg_xnnpack.lowering import to_edge
from qreg_xnnpack.runtime import load

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from qreg import Runner

ROUNDS = 20


def profile(program: ExportedProgram) -> dict[str, float]:
    """The seconds of each operator that the delegate takes, by its origin.

    The fastest of some runs: threads that wait for other processes say nothing of the operator.
    Operators that are fused are timed together, under the origin of the first.
    """
    found: dict[str, float] = {}
    for delegate in delegates_of(to_edge(program, per_operator=True).exported_program()):
        nodes = list(delegate.original_module.graph.nodes)
        names = [name for node in nodes if (name := origin(node))]
        if names:
            inputs = [
                TensorSpec.of_tensor(node.meta["val"]).example()
                for node in nodes
                if _is_input(node, delegate.original_module)
            ]
            seconds = _fastest(load(bytes(delegate.buffer())), inputs)
            found[names[0]] = found.get(names[0], 0.0) + seconds
    return found


def _is_input(node: Node, module: Any) -> bool:
    return node.name in module.graph_signature.user_inputs


def _fastest(run: Runner, inputs: list[Tensor]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - started)
    return min(times)
