"""Algorithms: changes to a model that make its quantized program more accurate.

This module does not import torch, so that algorithms are listed in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import Factory, field, frozen, validators

from qreg.errors import AlgorithmError
from qreg.plugins.types.backend import Mode
from qreg.plugins.types.fields import is_callable, non_empty, strings
from qreg.plugins.types.parameters import Parameter, checked_parameters, plain_parameters

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.backend import Backend
    from qreg.plugins.types.decision import Decision


Stage: TypeAlias = Literal["float", "prepared", "precision", "converted"]
STAGES: tuple[Stage, ...] = ("float", "prepared", "precision", "converted")  # in this order
REWRITES = frozenset({"float", "precision"})  # change the float model, which is then prepared again

Applies: TypeAlias = "Callable[[Candidate], str | None]"
Run: TypeAlias = "Callable[[Candidate, Calibration], Iterable[Change]]"
Update: TypeAlias = "Callable[[Any, Node, Sequence[Tensor], Tensor], Any]"
Once: TypeAlias = "Callable[[str, Callable[[], Change]], Change]"
Size: TypeAlias = "Callable[[Node], int]"


@frozen(eq=False)
class Candidate:
    """A model that an algorithm may change.

    ``model`` is the graph of the algorithm's stage: converted for the stage ``"converted"``, else
    prepared, with its observers. ``reference`` is the float graph with the same operators, without
    the changes of later stages than ``"float"``. ``decisions`` has one Decision for each operator.
    ``kept`` are the names of the operators in scopes that the user keeps in float, which may not be
    changed. ``modes`` are the modes of the configs.
    """

    model: GraphModule
    reference: GraphModule
    decisions: Sequence[Decision]
    kept: frozenset[str]
    backend: Backend
    modes: frozenset[Mode]


@frozen(eq=False)
class Calibration:
    """What is known from the calibration data.

    ``samples`` are a few batches, at most eight, each a tuple of the arguments of the graph.
    ``statistics`` has the values of each statistic that the algorithm requires, by its name and
    then by the name of the operator.

    ``once`` is for changes that take long: ``once(node, make)`` returns the change that ``make``
    returns, or the one that it returned for this operator in a run that was stopped. What ``make``
    returns must not depend on the changes of other operators; torch's random numbers begin anew
    with the seed of the run.
    """

    samples: Sequence[tuple[Any, ...]]
    statistics: Mapping[str, Mapping[str, Any]]
    once: Once = field(default=lambda _, make: make())


@frozen(eq=False)
class Statistic:
    """A value for each operator that is updated with every calibration batch.

    ``update`` is called for each operator that returns a tensor, with the value so far (None at
    first), the node, its input tensors and its output in float, and returns the next value, or None
    for an operator without one. Algorithms whose statistics have the same name share one pass over
    the data; the value must not grow with the number of batches. ``size`` returns the bytes of the
    value of a node of the prepared graph, 0 for one without: large values are then collected in
    several passes, so that those in memory fit. Read them in the order of the operators.
    """

    name: str = field(validator=non_empty)
    update: Update = field(validator=is_callable)
    size: Size | None = field(default=None, validator=validators.optional(is_callable))


@frozen(eq=False)
class Change:
    """A change of one operator, by the name of its node; the host applies it to a copy.

    ``constants`` replaces constant arguments by their position, with tensors of the same shape and
    dtype; a bias that the operator lacks may be added. Other operators that read the same constant
    keep its value. ``range`` are the lowest and highest value, in units of the tensor, from which
    the qparams of the output are computed: tensors without dimensions, or of shape (channels,) for
    specs per channel; for the name of a constant, those of its values. ``scale`` multiplies the
    output of the operator ahead of its consumers, in float; with ``readers``, the names of some
    of them, ahead of these alone. ``in_float`` is the reason why the
    operator is kept in float. The stage ``"prepared"`` may change constants and ranges,
    ``"precision"`` what is in float, ``"converted"`` constants, and ``"float"`` all but ranges,
    without changing the outputs of the model.
    """

    node: str = field(validator=non_empty)
    constants: Mapping[int, Tensor] = Factory(dict)
    range: tuple[Tensor, Tensor] | None = None
    scale: Tensor | None = None
    in_float: str = ""
    readers: tuple[str, ...] = field(default=(), converter=strings)


def _statistics(given: Iterable[Statistic]) -> tuple[Statistic, ...]:
    return tuple(given)


@frozen
class Algorithm:
    """A way to make quantized models more accurate; kept only where a measurement shows it.

    ``run`` returns the changes, and does not modify the candidate. ``applies`` is called ahead of
    the calibration and returns the reason why the algorithm cannot help a model, or None.
    ``statistics`` are collected for it in the pass that calibrates the model. ``before`` and
    ``after`` name algorithms of the same stage that run later or earlier; ``conflicts`` names
    algorithms with which this one is not combined. ``automatic`` is whether
    ``algorithms="auto"`` includes it. ``runs_model`` is whether ``run`` runs the candidate: only
    algorithms that do not are tried on a model that writes to its buffers, whose calls depend on
    each other. ``parameters`` are the values that ``run`` was made with,
    each a bool, int, float or str, or a sequence of them; ``make`` is a function of the module
    that accepts them by name and returns the algorithm with them.
    """

    name: str = field(validator=non_empty)
    stage: Stage = field(validator=validators.in_(STAGES))
    summary: str
    run: Run = field(validator=is_callable)
    applies: Applies | None = field(default=None, validator=validators.optional(is_callable))
    statistics: tuple[Statistic, ...] = field(
        default=(),
        converter=_statistics,
        validator=validators.deep_iterable(validators.instance_of(Statistic)),
    )
    before: tuple[str, ...] = field(default=(), converter=strings)
    after: tuple[str, ...] = field(default=(), converter=strings)
    conflicts: tuple[str, ...] = field(default=(), converter=strings)
    automatic: bool = True
    runs_model: bool = True
    parameters: Mapping[str, Parameter] = field(
        factory=dict, converter=plain_parameters, hash=False
    )
    make: Callable[..., Algorithm] | None = field(
        default=None, validator=validators.optional(is_callable)
    )

    def with_parameters(self, **given: Any) -> Algorithm:
        """Return the algorithm with other values of some parameters.

        Raises ``UnknownNameError`` for an unknown parameter, and ``AlgorithmError`` for a value of
        another type than the one it replaces, or one that ``make`` does not accept.
        """
        wanted = checked_parameters(self.name, given, self.parameters)
        if self.make is None:
            if wanted == self.parameters:
                return self
            raise AlgorithmError("its plugin declares parameters, but no make", self.name)
        try:
            made = self.make(**wanted)
        except (TypeError, ValueError) as cause:
            raise AlgorithmError(f"it does not accept {wanted}: {cause}", self.name) from cause
        if not isinstance(made, Algorithm) or made.name != self.name:
            raise AlgorithmError(f"make returned {made!r} (expected the algorithm)", self.name)
        return made

    def is_variant_of(self, other: Algorithm) -> bool:
        """Whether both are the same, or were made by the same function."""
        return self == other or (self.make is not None and self.make == other.make)
