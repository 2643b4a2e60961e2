"""Name operators that a runtime has no kernel for, where the model calls them, and a way out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from qreg.errors import QregError, UnsupportedOperatorError
from qreg.graph.provenance import described, in_code, origin

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

Site: TypeAlias = "tuple[Node, Node | None]"
COMPLEX = "complex numbers"  # in place of the name of an operator
# What computes the same with operators that the backends of this project run in float, for the
# arguments that the sentence names.
INSTEAD = {
    "fmin": "torch.minimum(a, b), which returns NaN where one of them is NaN",
    "fmax": "torch.maximum(a, b), which returns NaN where one of them is NaN",
    "copysign": "torch.where(b < 0, -a.abs(), a.abs())",
    "bucketize": "(x.unsqueeze(-1) > boundaries).sum(-1), for right=False",
    "searchsorted": "(values.unsqueeze(-1) > row).sum(-1), for one sorted row and right=False",
    "adaptive_max_pool1d": "max_pool1d with a window of fixed size",
    "adaptive_max_pool2d": "max_pool2d with a window of fixed size, or x.amax((-2, -1)) for size 1",
    "diagonal_scatter": "torch.where(torch.eye(n, dtype=torch.bool), new, x)",
    "diagonal": "(x * torch.eye(n)).sum(-1)",
    "stft": "conv1d with windowed sines and cosines as its weight",
    "_fft_r2c": "conv1d or matmul with sines and cosines as weights",
    "_embedding_bag": "embedding, and the mean, sum or maximum of its rows",
    "randn_like": "an input of the model",
    "rand_like": "an input of the model",
}
OTHERWISE = (
    "compute it outside of the model, or lower for x86_inductor, which falls back on torch's own "
    "kernels"
)


def unsupported(
    fact: str, programs: Iterable[Callable[[], ExportedProgram]], operators: Sequence[str]
) -> UnsupportedOperatorError:
    """Return the error for operators, with the place of each in the model and a way out.

    ``fact`` is what is missing, such as ``"ExecuTorch has no kernel"``. ``operators`` are names as
    in graphs, ``"aten.fmin.default"``, or ``COMPLEX``. They are looked for in one program after
    another, such as the model and the same decomposed, until one has any of them.
    """
    sites = next(filter(None, (_calls(each(), operators) for each in programs)), [])
    places = [f"{described(node)}{_part_of(node)}{_in_code(node, at)}" for node, at in sites]
    if COMPLEX in operators:
        what = f"{COMPLEX}{f', as returned by {places[0]}' if places else ''}"
        sites = sites[:1]
    else:
        what = "; ".join(places or operators)
    names = [name for node, _ in sites for name in _names(node)]
    names += map(plain_name, operators)
    return UnsupportedOperatorError(f"{fact} for {what}", operators, way_out(names))


@contextmanager
def naming_unsupported(
    fact: str,
    programs: Collection[ExportedProgram],
    read: Callable[[Exception], Sequence[str]],
) -> Iterator[None]:
    """Replace an error about missing kernels; ``read`` returns the operators that it names.

    ``programs`` are those that may call them.
    """
    try:
        yield
    except QregError:
        raise
    except Exception as cause:  # raised by a converter
        operators = read(cause)
        if not operators:
            raise
        raise unsupported_in(fact, programs, operators) from cause


def unsupported_in(
    fact: str, programs: Collection[ExportedProgram], operators: Sequence[str]
) -> UnsupportedOperatorError:
    """Return the error of :func:`unsupported` for programs, which are decomposed if need be."""
    plain = [partial(_itself, each) for each in programs]
    return unsupported(fact, (*plain, *(each.run_decompositions for each in programs)), operators)


def _itself(program: ExportedProgram) -> ExportedProgram:
    return program


def way_out(names: Iterable[str]) -> str:
    """Return a sentence on what to do about operators, by their names without overloads."""
    known = [name for name in dict.fromkeys(names) if name in INSTEAD]
    instead = [f"Replace {name} with {INSTEAD[name]}" for name in known]
    if not instead:
        return f"{OTHERWISE[0].upper()}{OTHERWISE[1:]}."
    return f"{'. '.join(instead)}. Otherwise {OTHERWISE}."


def _calls(program: ExportedProgram, operators: Sequence[str]) -> list[Site]:
    wanted = _is_complex if COMPLEX in operators else lambda node: str(node.target) in operators
    return [site for site in _sites(program.graph_module) if wanted(site[0])]


def _sites(module: Any, caller: Node | None = None) -> Iterator[Site]:
    """Yield the calls in a graph and in its branches and loops, with the call of these."""
    for node in module.graph.nodes:
        if node.op == "call_function":
            yield node, caller
        body = attrgetter(node.target)(module) if node.op == "get_attr" else None
        if hasattr(body, "graph"):
            yield from _sites(body, caller or next(iter(node.users), None))


def _in_code(node: Node, caller: Node | None) -> str:
    """Describe where the code calls an operator; torch records no place in the body of a loop."""
    place = in_code(node)
    if place or caller is None:
        return place
    return f", in the body of {described(caller)}{in_code(caller)}"


def _is_complex(node: Node) -> bool:
    dtype = getattr(node.meta.get("val"), "dtype", None)
    return dtype is not None and bool(dtype.is_complex)


def _part_of(node: Node) -> str:
    """Describe the operator of the model that a decomposed one comes from."""
    whole = origin(node)
    return f", part of {whole}" if whole not in (None, node.name) else ""


def _names(node: Node) -> list[str]:
    """Return names such as ``"fmin"``: of an operator, and of what it was decomposed from."""
    whole = str(node.meta.get("original_aten", ""))
    return [plain_name(str(node.target)), plain_name(whole)]


def plain_name(operator: str) -> str:
    """Return ``"fmin"`` for ``"aten.fmin.default"``."""
    parts = operator.split(".")
    return parts[1] if len(parts) > 1 else operator
