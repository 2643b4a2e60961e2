"""What a search tried and found, in plain values. Does not import torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from qreg.verification.latency import Timing

Key: TypeAlias = tuple[
    str, str, tuple[str, ...], tuple[str, ...], tuple[tuple[str, str, int, str], ...]
]

FLOAT = "float"


@frozen
class Place:
    """One operator: the ``ordinal``-th call, from 0, of ``operator`` in the module ``module``."""

    module: str
    operator: str
    ordinal: int


@frozen
class Move:
    """A pattern with another config than the rest of the model.

    ``config`` is the name of the config, or ``"float"``. ``places`` are the operators of the
    pattern. ``share`` is the part, from 0 to 1, of the noise at the outputs that the pattern caused
    in the config of the rest; None if the program fails with it.
    """

    places: tuple[Place, ...]
    config: str
    share: float | None

    @property
    def name(self) -> str:
        """The module of the pattern's first operator, or the operator if it has none."""
        first = self.places[0]
        return first.module or first.operator


@frozen
class Variant:
    """One way to quantize the model: a config, algorithms, and patterns with another config.

    ``trusted`` are the algorithms that are kept also where their gain in SQNR is uncertain.
    """

    backend: str
    config: str
    algorithms: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    trusted: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """What identifies the variant: two variants with the same key are the same program."""
        places = sorted(
            (place.module, place.operator, place.ordinal, move.config)
            for move in self.moves
            for place in move.places
        )
        return self.backend, self.config, self.algorithms, self.trusted, tuple(places)

    def __str__(self) -> str:
        counts = Counter(move.config for move in self.moves)
        moved = (f"{n} pattern{'s' * (n > 1)} in {config}" for config, n in counts.items())
        trusted = [f"{name} trusted" for name in self.trusted]
        return ", ".join([self.config, *self.algorithms, *trusted, *moved])


@frozen
class Trial:
    """A variant, and what its program is worth.

    ``metric`` is the number that ``evaluate`` returned for the program in the backend's runtime;
    None if the trial failed with the reason in ``failure``. ``culprits`` are the operators to keep
    in float for a program that fails, if they are known. ``met`` is whether the metric is within
    the limit. ``sqnr`` is that of the worst output to float in dB. ``int8_share`` is the share of
    multiply-accumulates in int8. ``bytes`` is the size of the program, ``milliseconds`` its latency
    on one input; None if the runtime is a simulator. ``digest`` is a hash of the converted model.
    ``kept`` are the algorithms that improved the outputs, and ``uncertain`` those that did not do
    so significantly. ``evaluated`` is False if the metric is that of an earlier trial with the same
    program. ``refuted`` is the metric of the first evaluation if the second, of ``metric``, missed
    the limit. ``seconds`` is the time of each stage.
    """

    variant: Variant
    metric: float | None = None
    met: bool = False
    failure: str | None = None
    culprits: tuple[Place, ...] = ()
    sqnr: float | None = None
    int8_share: float | None = None
    bytes: int | None = None
    milliseconds: float | None = None
    digest: str = ""
    kept: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    evaluated: bool = False
    refuted: float | None = None
    seconds: Mapping[str, float] = field(factory=dict, eq=False)

    @property
    def unconfirmed(self) -> bool:
        """Whether ``evaluate`` failed on the program when it met the limit and was loaded again."""
        return self.metric is not None and self.failure is not None

    @property
    def was_repeated(self) -> bool:
        """Whether the program was evaluated a second time and was not confirmed."""
        return self.refuted is not None or self.unconfirmed


@frozen
class TunedData:
    """The outcome of a search.

    ``float_metric`` is the metric of the float model, ``limit`` the worst metric that is accepted.
    ``trials`` are in the order in which they ended. ``best`` is the trial whose program is
    returned; None if no program was evaluated. ``confirmed`` is the metric of that program when it
    was loaded and evaluated again; None if it missed the limit at first. ``notes`` are on what
    could not be measured. ``seconds`` is the time of each part of the search. ``timing`` is the
    latency of the best program next to that of the float model in the same runtime; None if the
    search minimizes the size, or if it was not measured.
    """

    model: str
    float_metric: float
    limit: float
    lower_is_better: bool
    minimize: str
    trials: tuple[Trial, ...]
    best: Trial | None
    confirmed: float | None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(factory=dict)
    timing: Timing | None = None

    @property
    def met(self) -> bool:
        """Whether the best program met the limit twice."""
        return self.confirmed is not None

    @property
    def evaluations(self) -> int:
        """The number of times that ``evaluate`` ran a program, with confirmations."""
        again = sum(each.was_repeated for each in self.trials)
        return sum(each.evaluated for each in self.trials) + again + self.met

    @property
    def noise(self) -> float | None:
        """The largest difference of two evaluations of a program; None without a second one."""
        pairs = [(each.refuted, each.metric) for each in self.trials]
        if self.best is not None:
            pairs.append((self.best.metric, self.confirmed))
        found = [abs(one - two) for one, two in pairs if one is not None and two is not None]
        return max(found, default=None)
