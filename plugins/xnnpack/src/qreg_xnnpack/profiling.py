"""The run time of each operator of a program, measured by running the operator alone.

The packages of executorch 1.4.1 are built without the runtime's event tracing. The program is
therefore lowered again with one delegate per operator, and each delegate is run and timed as a
separate program. The times do not include work between operators. For operators on images, they
include the conversion of the layout at both ends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qreg.backends.inputs import TensorSpec
from qreg.graph.provenance import origin
from qreg_xnnpack.compat import delegates_of
from qreg_xnnpack.lowering import to_edge
from qreg_xnnpack.runtime import ONLY, load

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from qreg import Runner

ROUNDS = 20


def profile(program: ExportedProgram) -> dict[str, float]:
    """Return the seconds of each delegated operator, by its origin.

    The time is that of the fastest of several runs, because slower runs include the time of other
    processes. Fused operators are timed together, under the origin of the first.
    """
    found: dict[str, float] = {}
    for delegate in delegates_of(
        to_edge({ONLY: program}, per_operator=True).exported_program(ONLY)
    ):
        nodes = list(delegate.original_module.graph.nodes)
        # The inputs of a delegate have the origins of their producers in executorch 1.5.1.
        called = [node for node in nodes if node.op == "call_function"]
        names = [name for node in called if (name := origin(node))]
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
