"""Make one program with several methods of results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import evolve

from qreg.analysis.audit import audit
from qreg.errors import InputError
from qreg.graph.mutation import written_buffers
from qreg.pipeline.result import Result
from qreg.plugins.types.program import Lowered
from qreg.programs.export import export_again
from qreg.programs.methods import check_names
from qreg.report.cautions import some
from qreg.utils.wording import a_type
from qreg.verification.verdict import warn_if_poor
from qreg.verification.verify import FLOOR, Verification, floor_of, verify


def combine(results: Mapping[str, Result]) -> dict[str, Result]:
    """Lower results together, as the methods of one program, and run each method.

    Methods share the buffers of one name that they write to, such as a cache of keys and values,
    and equal constants. Each method is compared with its own float and converted model, from the
    initial state.

    Args:
        results: results of :func:`qreg.quantize` by the names of their methods, for one backend
            with equal options.

    Returns:
        A result for each method. All have the whole program; the report, the audit, the
        verification, ``run`` and ``lowered`` of each are those of its method.

    Raises:
        InputError: a name is not an identifier, a value is not a result, the backends or options
            differ, programs of the backend have one method, or the methods do not agree on the
            state that they share.
        LoweringError: the program does not lower.
        VerificationError: a method does not run, or is far from its converted model.
    """
    _check(results)
    target = next(iter(results.values())).target
    programs = {
        name: export_again(each.converted, each.example, each.dynamic_shapes, each.boundary)
        for name, each in results.items()
    }
    reads = {name: each.reads for name, each in results.items()}
    lowered = target.lower_methods(programs, reads)
    return {
        name: _as_method(name, each, lowered.methods[name], note)
        for (name, each), note in zip(results.items(), _notes(results), strict=True)
    }


def _check(results: Mapping[str, Result]) -> None:
    check_names(results)
    for name, each in results.items():
        if not isinstance(each, Result):
            raise InputError(
                f"method {name!r}: it is {a_type(each)} (expected a result of "
                "qreg.quantize). Quantize each method, or pass models to qreg.lower."
            )
    targets = {name: (each.backend, dict(each.target.options)) for name, each in results.items()}
    first, *others = targets
    for name in others:
        if targets[name] != targets[first]:
            given, wanted = targets[name], targets[first]
            raise InputError(
                f"method {name!r}: it is for backend {given[0]!r} with options {given[1]} "
                f"(expected {wanted[0]!r} with {wanted[1]}, as method {first!r}). "
                "Quantize all for one backend, with equal options."
            )


def _notes(results: Mapping[str, Result]) -> Iterator[str]:
    """Yield what a report has to say about each method: its siblings, and the state they share."""
    written = {name: written_buffers(each.converted.graph) for name, each in results.items()}
    for name, own in written.items():
        others = frozenset[str]().union(*(written[other] for other in written if other != name))
        shared = some(sorted(own & others)) if own & others else "no buffer"
        yield (
            f"method {name!r} of a program with {', '.join(results)}, whose size is that of all; "
            f"it shares {shared} with them"
        )


def _as_method(name: str, result: Result, lowered: Lowered, note: str) -> Result:
    target = result.target.of_method(name)
    made = evolve(
        result,
        lowered=lowered,
        target=target,
        audit=audit(result.decisions, lowered, result.converted),
        notes=(*result.notes, note),
    )
    verification = _verified(made)
    if verification is not None:
        warn_if_poor(verification, tried=bool(result.algorithms))
    return evolve(made, verification=verification)


def _verified(result: Result) -> Verification | None:
    """Return the comparison of a method with its models, if the result was verified before."""
    before, made = result.verification, result.made
    if before is None:
        return None
    return verify(
        result.target.loader.in_float(result.boundary, result.lowered.changed_inputs),
        result.lowered,
        result.samples,
        runtime=before.runtime,
        floor=floor_of(made.quantizer.modes) if made else FLOOR,
        min_sqnr=before.min_sqnr,
        float_model=result.reference,
        converted=result.converted,
    )
