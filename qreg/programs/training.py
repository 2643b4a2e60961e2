"""Find operators that an export in training mode leaves active."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from qreg.errors import InputError
from qreg.graph.provenance import described

Values = Mapping[str, Any]

PROGRAM_REMEDY = (
    "Call model.eval() before torch.export.export. If it was called, the model passes "
    "training=True itself: write training=self.training."
)
MODULE_REMEDY = (
    "The model passes training=True itself, which eval() does not change: write "
    "training=self.training."
)
GRAPH_REMEDY = (
    "Call torchao.quantization.pt2e.move_exported_model_to_eval(model), or model.eval() before "
    "the export."
)
IS_RANDOM = "is random"
USES_BATCH = "uses the statistics of each batch"


def _drops(values: Values) -> bool:
    return values["p"] > 0 and values["train"] is not False


def _counts(values: Values) -> bool:
    """Whether a norm with trained statistics uses those of the batch."""
    return bool(values.get("running_mean") is not None and values["training"])


def _counts_instances(values: Values) -> bool:
    return bool(values["running_mean"] is not None and values["use_input_stats"])


def _slopes_vary(values: Values) -> bool:
    return bool(values["training"] and values["lower"] != values["upper"])


def _drops_between_layers(values: Values) -> bool:
    return bool(values["train"] and values["dropout"] > 0 and values["num_layers"] > 1)


def _drops_attention(values: Values) -> bool:
    return bool(values["dropout_p"] > 0)


DROPOUTS = ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
NORMS = ("batch_norm", "native_batch_norm", "_native_batch_norm_legit")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
ACTIVE: Mapping[str, tuple[Callable[[Values], bool], str]] = {
    **dict.fromkeys((*DROPOUTS, *(f"{name}_" for name in DROPOUTS)), (_drops, IS_RANDOM)),
    "native_dropout": (_drops, IS_RANDOM),
    **dict.fromkeys((*NORMS, f"{NORMS[-1]}_functional"), (_counts, USES_BATCH)),
    "instance_norm": (_counts_instances, USES_BATCH),
    **dict.fromkeys(("rrelu", "rrelu_", "rrelu_with_noise"), (_slopes_vary, IS_RANDOM)),
    **dict.fromkeys(RECURRENT, (_drops_between_layers, IS_RANDOM)),
    "scaled_dot_product_attention": (_drops_attention, IS_RANDOM),
}


def check_eval(program: ExportedProgram | GraphModule, remedy: str = PROGRAM_REMEDY) -> None:
    """Raise ``InputError`` for an operator that is in training mode, with its module."""
    for node in _calls(program):
        problem = _problem(node)
        if problem:
            raise InputError(
                f"{described(node)}: it {problem}, since it is in training mode (expected a model "
                f"in eval mode). {remedy}"
            )


def check_still(program: ExportedProgram, model: torch.nn.Module | ExportedProgram) -> None:
    """Raise ``InputError`` for an operator of a module that is in training mode in spite of eval.

    Such a program returns something else at every call, so that it cannot be verified.
    """
    if not isinstance(model, ExportedProgram):
        check_eval(program, GRAPH_REMEDY if isinstance(model, GraphModule) else MODULE_REMEDY)


def _problem(node: Node) -> str | None:
    target = node.target
    if not isinstance(target, OpOverload) or target.namespace != "aten":
        return None
    found = ACTIVE.get(target._schema.name.partition("::")[2])
    if found is None:
        return None
    is_active, problem = found
    return problem if is_active(_values(target, node)) else None


def _values(target: OpOverload, node: Node) -> Values:
    """Return the arguments of a call by name, with the defaults of the operator."""
    arguments = target._schema.arguments
    given = dict(zip((each.name for each in arguments), node.args, strict=False))
    return {each.name: each.default_value for each in arguments} | given | node.kwargs


def _calls(program: ExportedProgram | GraphModule) -> Iterator[Node]:
    """Yield the calls of a program, those in bodies of control flow included."""
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    for part in module.modules():
        if isinstance(part, GraphModule):
            yield from part.graph.nodes
