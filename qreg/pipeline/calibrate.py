"""Run batches through a prepared model to calibrate its observers, and convert the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import (
    FakeQuantizeBase,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from qreg.analysis.failing import naming_failure
from qreg.analysis.interpreter import first_nan
from qreg.annotators.rules import LARGEST_SCALAR
from qreg.errors import CalibrationError, InputError
from qreg.graph.compat import (
    AFFINE_RANGED,
    folding_constants,
    forget_models,
    keeping_nested_bodies,
)
from qreg.graph.lazy_recompile import recompiled_when_used
from qreg.graph.mutation import keeping_state
from qreg.graph.overloads import with_overloads
from qreg.graph.prepared import OBSERVERS, is_prepared
from qreg.graph.provenance import module_path
from qreg.graph.qat_patterns import folding_where_qat_scaled
from qreg.inputs.batches import (
    NO_BATCH,
    Transform,
    capped,
    check_batches,
    checked,
    length,
    transformed,
)
from qreg.inputs.signature import Signature
from qreg.inputs.specs import called, cloned
from qreg.utils.progress import Stages
from qreg.utils.wording import a_type

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.backend import Backend

NAN_REMEDY = "Check that neither the float model nor the batch contains NaN or infinity."


def calibrate(
    prepared: GraphModule,
    batches: Iterable[Any],
    *,
    max_batches: int | None = None,
    transform: Transform | None = None,
    progress: bool | None = None,
) -> int:
    """Run batches through the result of ``prepare_pt2e``, and return how many there were.

    ``batches`` is any iterable: a list, a generator, a ``DataLoader``. A batch is a tuple or list
    of input tensors, a dict of them by name, a pair ``(args, kwargs)``, or a lone tensor;
    ``transform`` makes one of these from a batch of another form. Arrays of numpy are tensors too.
    At most ``max_batches`` are read; none is kept. ``progress=None`` shows a bar on a terminal and
    prints a line elsewhere.

    Raises ``CalibrationError`` for a batch that does not fit the model, and for data without a
    batch.
    """
    check_batches(batches, "batches")
    taken = transformed(capped(batches, max_batches), transform)
    with (
        Stages(progress) as stages,
        stages.stage("calibrate", length(batches, max_batches)) as each,
    ):
        return feed(prepared, checked(taken, Signature.of_graph(prepared)), each)


def feed(
    prepared: GraphModule,
    batches: Iterable[tuple[Any, ...]],
    each: Callable[[], None],
    run: Callable[[tuple[Any, ...]], Any] | None = None,
) -> int:
    """Run every batch through the prepared model, and return how many there were.

    ``each`` is called after every batch. ``run`` runs the model in another way. Raises
    ``CalibrationError`` for data without a batch.
    """
    count = 0
    with torch.no_grad(), keeping_state(prepared):
        for batch in batches:
            _run(prepared, batch, count, run or partial(called, prepared))
            count += 1
            each()
    if not count:
        raise CalibrationError(NO_BATCH)
    return count


def _run(
    prepared: GraphModule,
    batch: tuple[Any, ...],
    number: int,
    run: Callable[[tuple[Any, ...]], Any],
) -> None:
    try:
        run(cloned(batch))
    except Exception as cause:  # raised by an operator, or by an observer of NaN
        name = _nan_source(prepared, batch)
        if name is not None:
            raise _no_range(name, number) from cause
        with naming_failure(prepared, batch, number):
            raise


def nan_error(prepared: GraphModule, batch: tuple[Any, ...], number: int) -> CalibrationError:
    """Return the error for a batch that makes an activation NaN, with the name of the operator."""
    return _no_range(_nan_source(prepared, batch) or "an input", number)


def _no_range(name: str, number: int) -> CalibrationError:
    problem = f"{name} is the first operator to return NaN, which has no range. {NAN_REMEDY}"
    return CalibrationError(problem, batch=number)


def _nan_source(prepared: GraphModule, batch: tuple[Any, ...]) -> str | None:
    try:
        return first_nan(prepared, batch)
    except Exception:  # the same error as in _run, which raises it again
        return None


def convert(prepared: GraphModule, *, fold_quantize: bool = True) -> GraphModule:
    """Convert a calibrated model with ``convert_pt2e``.

    ``fold_quantize`` stores weights quantized; ``Backend.fold_quantize`` is what a backend needs.

    Raises ``CalibrationError`` that names the observer if the model was not calibrated. torchao's
    ``convert_pt2e`` warns instead and sets the observer's scale to 1, so that the model is useless.
    """
    if not isinstance(prepared, torch.fx.GraphModule):
        raise InputError(
            f"prepared: it is {a_type(prepared)} (expected the result of prepare_pt2e)"
        )
    check_observers(prepared)
    try:
        # To fold constants, torchao also runs operators that write to buffers.
        with recompiled_when_used(), keeping_state(prepared), ExitStack() as stack:
            for patch in (keeping_nested_bodies, folding_where_qat_scaled, folding_constants):
                stack.enter_context(patch())
            converted: GraphModule = convert_pt2e(prepared, fold_quantize=fold_quantize)
    except AssertionError as cause:
        if is_prepared(prepared):
            raise
        raise InputError("the model has no observers: pass what prepare_pt2e returned") from cause
    finally:
        forget_models()
    converted = with_overloads(converted)
    converted.recompile()
    return converted


def converted_for(backend: Backend, prepared: GraphModule) -> GraphModule:
    """Convert a calibrated model to the form that a backend computes. Raises as ``convert``."""
    converted = convert(prepared, fold_quantize=backend.fold_quantize)
    return backend.finish(converted) if backend.finish else converted


def check_observers(prepared: GraphModule) -> None:
    """Raise ``CalibrationError`` with the first observer that saw no value, or an invalid one."""
    for graph_module in prepared.modules():  # the model, and bodies of loops in it
        if not isinstance(graph_module, torch.fx.GraphModule):
            continue
        for node in graph_module.graph.nodes:
            if node.op == "call_module":
                _check_observer(node.args[0], graph_module.get_submodule(node.target))


def _check_observer(source: Node, module: torch.nn.Module) -> None:
    if not isinstance(module, OBSERVERS):
        return
    remedy = "or keep it in float with set_module_name(..., None)"
    path = module_path(source)
    kind = "fake quantizer" if isinstance(module, FakeQuantizeBase) else "observer"
    where = f"the {kind} of {source}{f' in module {path!r}' if path else ''}"
    observer = getattr(module, "activation_post_process", module)  # inside a fake quantizer
    if _is_blind(observer):
        raise CalibrationError(f"{where} saw no value: {_why_blind(module)}, {remedy}.")
    if _spread(observer).isnan().any():
        raise CalibrationError(f"{where} saw NaN. {NAN_REMEDY}")
    if not (_spread(observer) <= LARGEST_SCALAR).all():
        raise CalibrationError(
            f"{where} saw values too far apart for any scale, such as masks of "
            f"-inf are. Use a mask of moderate size, {remedy}."
        )


def _why_blind(module: torch.nn.Module) -> str:
    enabled = getattr(module, "observer_enabled", None)
    if enabled is not None and not enabled.any():
        return "it is disabled. Call enable_observer() on it before batches run"
    return "no batch ran this part of the model. Add batches that do"


def _spread(observer: Any) -> Tensor:
    if not _has_range(observer):
        return torch.zeros(1)
    return torch.as_tensor(observer.max_val - observer.min_val)


def _is_blind(observer: Any) -> bool:
    if not _has_range(observer):
        return isinstance(observer, AFFINE_RANGED)  # these have a range from the first value on
    lowest = observer.min_val
    return bool(lowest.numel() == 0 or torch.isinf(lowest).all())


def _has_range(observer: Any) -> bool:
    """Whether the qparams come from an observed range.

    A dynamic observer computes qparams for each input. A placeholder, or an observer with fixed or
    derived qparams, needs no values.
    """
    return hasattr(observer, "min_val") and not getattr(observer, "is_dynamic", False)
