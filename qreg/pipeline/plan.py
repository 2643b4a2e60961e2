"""The model that algorithms are tried on, and which of them apply to it."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import chain
from typing import Any

from attrs import Factory, field, frozen
from torch.fx import GraphModule

from qreg.algorithms.collecting import Collected
from qreg.algorithms.outcome import Outcome
from qreg.algorithms.simulation import not_simulated
from qreg.errors import AlgorithmError, AlgorithmWarning, PluginError
from qreg.graph.mutation import written_buffers
from qreg.graph.prepared import constants_late, independent
from qreg.inputs.fingerprint import Fingerprint
from qreg.pipeline.cached import HOST
from qreg.pipeline.score import Score
from qreg.pipeline.selection import Selection
from qreg.plugins.blame import call
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import REWRITES, Algorithm, Candidate, Statistic
from qreg.plugins.types.backend import Backend
from qreg.quantizer.registry_quantizer import RegistryQuantizer
from qreg.recipes.record import Step


@frozen(eq=False)
class Model:
    """A model in the search: its graph, its float graph, and its quantizer with the Decisions.

    ``graph`` is prepared or converted, and ``calibrated`` the prepared graph without the changes of
    the stage ``"prepared"``. ``steps`` are the changes that it has, those of the float model first.
    ``collected`` are the statistics of the pass that calibrated it, and ``data`` identifies the
    batches of that pass.
    """

    graph: GraphModule
    reference: GraphModule
    quantizer: RegistryQuantizer
    steps: tuple[Step, ...] = ()
    collected: Collected = field(factory=Collected)
    score: Score = field(factory=partial(Score, ()))
    data: Fingerprint | None = None
    calibrated: GraphModule = field(default=Factory(lambda self: self.graph, takes_self=True))

    def candidate(self, backend: Backend, supplied: Supplied[Algorithm]) -> Candidate:
        """Return what an algorithm sees: a copy, so that one which modifies it does no harm.

        Algorithms of qreg, which are tested to modify nothing, share the weights of the model.
        """
        known = self._weights() if supplied.source.module.split(".")[0] == HOST else {}
        return Candidate(
            model=constants_late(independent(self.graph, known)),
            reference=independent(self.reference, known),
            decisions=tuple(self.quantizer.decisions),
            kept=self.quantizer.kept_in_float(self.reference),
            backend=backend,
            modes=self.quantizer.modes,
        )

    def _weights(self) -> dict[int, Any]:
        """Return the tensors of the graphs without those of observers, as a memo of ``deepcopy``.

        The two graphs share their weights, and the memo of copies that are separate is empty.
        """
        own = chain(self.graph.parameters(recurse=False), self.graph.buffers(recurse=False))
        shared = self.reference.state_dict(keep_vars=True).values()
        return {id(each): each for each in chain(own, shared)}


@frozen
class Plan:
    """The algorithms to try, and the outcomes of those that are left out.

    ``named`` is whether the user named them: one that cannot be run or fails is an error then.
    ``trusted`` are the names of those that are kept also where their gain is uncertain.
    """

    algorithms: tuple[Supplied[Algorithm], ...]
    left: tuple[Outcome, ...]
    named: bool
    trusted: tuple[str, ...]

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What the algorithms require, each once."""
        required = (each for supplied in self.algorithms for each in supplied.value.statistics)
        return tuple({each.name: each for each in required}.values())


def planned(model: Model, selection: Selection, backend: Backend, *, readable_again: bool) -> Plan:
    """Return which algorithms of a selection apply to a prepared model.

    Raises ``AlgorithmError`` for one that does not apply and that the user named.
    """
    taken: list[Supplied[Algorithm]] = []
    left: list[Outcome] = []
    for supplied in selection.algorithms:
        try:
            reason = _why_not(model, supplied, backend, readable_again)
        except PluginError as error:
            if selection.named or model.quantizer.registry.switches.strict:
                raise
            warnings.warn(f"{error} It was left out.", AlgorithmWarning, stacklevel=2)
            reason = f"it failed: {error.problem}"
        if reason is None:
            taken.append(supplied)
        elif selection.named:
            raise AlgorithmError(reason, supplied.value.name, source_of(supplied))
        else:
            left.append(outcome(supplied, reason))
    return Plan(tuple(taken), tuple(left), selection.named, selection.trusted)


def _why_not(
    model: Model, supplied: Supplied[Algorithm], backend: Backend, readable_again: bool
) -> str | None:
    algorithm = supplied.value
    if algorithm.stage in REWRITES and not readable_again:
        return (
            "it calibrates the model again, and the calibration data is an iterator, which can be "
            "read once. Pass a list or a DataLoader"
        )
    if reason := not_simulated(model.graph):
        return reason
    state = sorted(written_buffers(model.graph.graph))
    if state and algorithm.runs_model:
        return f"the model writes to its buffer {state[0]!r}, so its calls depend on each other"
    if algorithm.applies is None:
        return None
    candidate, expected = model.candidate(backend, supplied), (str, type(None))
    return call(  # type: ignore[no-any-return]
        supplied, "applies", algorithm.applies, candidate, expected=expected
    )


def outcome(supplied: Supplied[Algorithm], reason: str) -> Outcome:
    """Return the outcome of an algorithm that was not kept."""
    return Outcome(
        algorithm=supplied.value.name,
        stage=supplied.value.stage,
        distribution=supplied.distribution,
        version=supplied.version,
        kept=False,
        reason=reason,
    )


def source_of(supplied: Supplied[Algorithm]) -> str:
    """Return the distribution of an algorithm as errors name it."""
    return f" of {supplied.distribution!r} {supplied.version}".rstrip()
