"""To the XNNPACK delegate, and back: lowering to a ``.pte``, and running one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import Lowered
from qreg_xnnpack.passes import ready

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from qreg.model import Runner

DELEGATE_CALL = "executorch_call_delegate"


def lower(program: ExportedProgram) -> Lowered:
    """Lowers a program; what the delegate does not take runs in ExecuTorch's portable kernels."""
    # Registers the out variants of quantize and dequantize, without which a program that has one
    # outside the delegate cannot be written.
    import executorch.kernels.quantized  # noqa: F401
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = ready(program)
    with warnings.catch_warnings():
        # executorch 1.4.1 copies pytree specs that torch 2.13 has deprecated, thousands of times.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        signature, graph = (edge.exported_program().graph_signature, edge.exported_program().graph)
        calls = [node.target.__name__ for node in graph.nodes if node.op == "call_function"]
        lowered = edge.to_executorch()
    outside = [call for call in calls if DELEGATE_CALL not in call and "getitem" not in call]
    changed = len(signature.user_inputs_to_mutate)
    return Lowered(bytes(lowered.buffer), calls.count(DELEGATE_CALL), outside, changed)


def load(program: bytes) -> Runner:
    """Loads a ``.pte`` in the ExecuTorch runtime; the runner takes and gives flat tensors."""
    from executorch.runtime import Runtime

    loaded = Runtime.get().load_program(program)
    method = loaded.load_method("forward")

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # The runtime's outputs lie in its own memory, which the next call overwrites.
        return tuple(output.clone() for output in method.execute(list(inputs)))

    return run
