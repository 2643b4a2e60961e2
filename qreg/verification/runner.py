"""Run a lowered program, and check that its results are repeatable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from qreg.errors import LoadError, NaNError, RunError, VerificationError
from qreg.graph.by_rows import ByRows
from qreg.graph.compat import signature_of
from qreg.graph.late import with_late_weights
from qreg.graph.mutation import changed_buffers, keeping_state
from qreg.inputs.specs import called, cloned, flat
from qreg.verification.metrics import Outputs, compare_all, is_far

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.program import Lowered


REPEATS = 2  # further runs of the first sample, to check that the program does not change
STEADY = 60.0  # dB between two runs of one program on one sample, which may differ by rounding


def run_program(
    load: Callable[[bytes], Runner],
    lowered: Lowered,
    samples: Sequence[Any],
    repeats: int = 0,
) -> Outputs:
    """Load a program once, run it on each sample, and ``repeats`` more times on the first.

    Raises ``VerificationError`` with the runtime's error as its cause if loading or running fails;
    the suspects are the operators that are not delegated. Raises it also if the outputs change when
    the program is run again, or if the program changes its inputs.
    """
    left = sorted(set(lowered.outside))  # operators that are not delegated
    try:
        runner = load(lowered.program)
        outputs = [run_once(runner, lowered, sample) for sample in samples]
        again = [run_once(runner, lowered, samples[0]) for _ in range(repeats)]
        del runner  # which holds packed weights
    except (LoadError, RunError) as error:
        raise error.suspecting(*left) from error.__cause__
    except VerificationError:
        raise
    except Exception as cause:  # raised by the runtime
        raise VerificationError(f"the lowered program does not run: {cause}.", left) from cause
    for number, found in enumerate(again, len(samples) + 1):
        _check_steady(number, outputs[0], found)
    return outputs


def run_once(runner: Runner, lowered: Lowered, sample: Any) -> list[Tensor]:
    """Return the flat outputs of one run; the sample is copied, and the copies must not change."""
    given = [value.contiguous() for value in flat(cloned(sample))]
    with torch.no_grad():
        outputs = _copies(runner(given))
    if not lowered.changed_inputs:
        _check_unchanged(flat(sample), given)
    return outputs[lowered.changed_inputs :]


def _check_unchanged(before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    for position, (one, other) in enumerate(zip(before, after, strict=True)):
        if not torch.allclose(one, other, rtol=0, atol=0, equal_nan=True):
            raise VerificationError(
                f"the program overwrites its input {position}, which the model leaves as it is"
            )


def _check_steady(number: int, first: Sequence[Tensor], again: Sequence[Tensor]) -> None:
    check_alike([list(again)], [list(first)])
    for position, found in enumerate(compare_all([list(again)], [list(first)])):
        if first[position].is_floating_point() and is_far(found, STEADY):
            raise VerificationError(
                f"output {position} of the program changes: at call {number} it is "
                f"{found.sqnr:.1f} dB from the output for the same input at the first call"
            )


def repeats_for(model: object) -> int:
    """Return how often a program of this model is run again: 0 if the model has state."""
    return 0 if changed_buffers(model) else REPEATS


def structured(outputs: Sequence[Tensor], model: GraphModule, sample: tuple[Any, ...]) -> Any:
    """Return the flat outputs of a program in the structure of the model's outputs.

    Numbers, strings and None, which programs omit, are those in the graph of the model. Sizes that
    depend on the input are those that the model returns for the sample: the model is run for them.
    """
    info = signature_of(model)
    if info is None or info.out_spec is None:
        return tuple(outputs)
    tensors = iter(outputs)
    (values,) = model.graph.output_node().args
    places = flat(values)
    if any(map(_is_size, places)):
        with torch.no_grad(), keeping_state(model):
            places = [
                place if isinstance(found, Tensor) else found
                for place, found in zip(places, flat(called(model, cloned(sample))), strict=True)
            ]
    leaves = [next(tensors) if isinstance(each, Node) else each for each in places]
    return pytree.tree_unflatten(leaves, info.out_spec)


def _is_size(value: object) -> bool:
    return isinstance(value, Node) and isinstance(value.meta.get("val"), torch.SymInt)


def outputs_of(model: Callable[..., Any], samples: Sequence[tuple[Any, ...]]) -> Outputs:
    """Return the flat output tensors of a model for each sample; neither is modified.

    The tensors are copies: an output may be a buffer, which the next call changes.
    """
    run = _run_of(model)
    with torch.no_grad(), keeping_state(model):
        return [_copies(run(*cloned(sample))) for sample in samples]


def _run_of(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the arguments in order; a graph holds few weights in float at once."""
    if isinstance(model, GraphModule):
        return ByRows(with_late_weights(model)).run
    return lambda *sample: called(model, sample)


def _copies(outputs: Any) -> list[Tensor]:
    return [value.clone() for value in _tensors(outputs)]


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors among some outputs; a model may also return numbers and None."""
    return [value for value in pytree.tree_leaves(outputs) if isinstance(value, Tensor)]


def check_alike(outputs: Outputs, references: Outputs) -> None:
    """Raise ``VerificationError`` if outputs differ in number, shape or type, or contain NaN."""
    for output, reference in zip(outputs, references, strict=True):
        for what, spelled in (("shapes", _shapes), ("types", _types)):
            got, wanted = spelled(output), spelled(reference)
            if got != wanted:
                raise VerificationError(
                    f"the program returns outputs of {what} {got}, expected {wanted}"
                )
        for position, tensor in enumerate(output):
            if tensor.isnan().any():
                raise NaNError(f"output {position} of the program is NaN in places")


def _shapes(tensors: Sequence[Tensor]) -> list[Any]:
    return [tuple(tensor.shape) for tensor in tensors]


def _types(tensors: Sequence[Tensor]) -> list[Any]:
    return [str(tensor.dtype).removeprefix("torch.") for tensor in tensors]
