"""Run a lowered program, and see that it stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qreg.errors import LoadError, NaNError, RunError, VerificationError
from qreg.graph.mutation import changed_buffers, keeping_state
from qreg.programs.inputs import cloned, flat
from qreg.verification.metrics import Outputs, compare_all, is_far

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.program import Lowered


REPEATS = 2  # runs of the first sample again, to see whether the program is as it was before
STEADY = 60.0  # dB between two runs of one program on one sample, which differ by rounding at most


def run_program(
    load: Callable[[bytes], Runner],
    lowered: Lowered,
    samples: Sequence[Any],
    repeats: int = 0,
) -> Outputs:
    """Loads a program once and runs it on each sample, and ``repeats`` times more on the first.

    Raises ``VerificationError`` with the runtime's error as its cause if either fails; the suspects
    are what the backend left to the runtime's own kernels. Raises it also for a program that gives
    something else when it is run again, or changes what it is given, as programs do that compute
    in place where they should not.
    """
    left = sorted(set(lowered.outside))  # to the runtime's own kernels
    try:
        runner = load(lowered.program)
        outputs = [run_once(runner, lowered, sample) for sample in samples]
        again = [run_once(runner, lowered, samples[0]) for _ in range(repeats)]
    except (LoadError, RunError) as error:
        raise error.suspecting(*left) from error.__cause__
    except VerificationError:
        raise
    except Exception as cause:
        raise VerificationError(f"the lowered program does not run: {cause}.", left) from cause
    for number, found in enumerate(again, len(samples) + 1):
        _check_steady(number, outputs[0], found)
    return outputs


def run_once(runner: Runner, lowered: Lowered, sample: Any) -> list[Tensor]:
    """The outputs of one run, flat; the sample stays as it is, and so must what is run on."""
    given = [value.contiguous() for value in flat(cloned(sample))]
    with torch.no_grad():
        outputs = [output.clone() for output in _tensors(runner(given))]
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
                f"{found.sqnr:.1f} dB from what the same input gave at the first call"
            )


def repeats_for(model: object) -> int:
    """How often a program of this model is run again: not if the model keeps a state."""
    return 0 if changed_buffers(model) else REPEATS


def structured(outputs: Sequence[Tensor], model: GraphModule) -> Any:
    """Flat outputs of a program in the structure in which the model gives its own.

    They stay a tuple where the model also gives numbers or None, which programs leave out.
    """
    wanted = getattr(model.graph._codegen, "pytree_info", None)
    spec = wanted.out_spec if wanted else None
    if spec is None or spec.num_leaves != len(outputs):
        return tuple(outputs)
    return pytree.tree_unflatten(outputs, spec)


def outputs_of(model: Callable[..., Any], samples: Sequence[tuple[Any, ...]]) -> Outputs:
    """The flat output tensors of a model for each sample; samples and model stay as they are."""
    with torch.no_grad(), keeping_state(model):
        return [_tensors(model(*cloned(sample))) for sample in samples]


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors among some outputs; a model may also give numbers and None."""
    return [value for value in pytree.tree_leaves(outputs) if isinstance(value, Tensor)]


def check_alike(outputs: Outputs, references: Outputs) -> None:
    """Raises ``VerificationError`` for outputs of another number, shape or type, and for NaN."""
    for output, reference in zip(outputs, references, strict=True):
        for what, spelled in (("shapes", _shapes), ("types", _types)):
            got, wanted = spelled(output), spelled(reference)
            if got != wanted:
                raise VerificationError(
                    f"the program gives outputs of {what} {got}, expected {wanted}"
                )
        for position, tensor in enumerate(output):
            if tensor.isnan().any():
                raise NaNError(f"output {position} of the program is NaN in places")


def _shapes(tensors: Sequence[Tensor]) -> list[Any]:
    return [tuple(tensor.shape) for tensor in tensors]


def _types(tensors: Sequence[Tensor]) -> list[Any]:
    return [str(tensor.dtype).removeprefix("torch.") for tensor in tensors]
