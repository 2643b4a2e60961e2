"""The algorithms that a user asked for, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from attrs import evolve, frozen

from qreg.errors import IN_PROCESS, AlgorithmError, InputError, UnknownNameError
from qreg.plugins.ordering import in_order
from qreg.plugins.plugin import Plugin
from qreg.plugins.registry import Registry
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import STAGES, Algorithm, Stage
from qreg.recipes.values import Named

AUTO = "auto"


@frozen
class Selection:
    """Algorithms in the order in which they are tried; ``named`` is whether the user named them.

    ``trusted`` are the names of those that are kept also where their gain is uncertain: where
    another measure judges the program.
    """

    algorithms: tuple[Supplied[Algorithm], ...] = ()
    named: bool = False
    trusted: tuple[str, ...] = ()

    def of_stages(self, *stages: Stage) -> list[Supplied[Algorithm]]:
        """Return the algorithms of some stages."""
        return [each for each in self.algorithms if each.value.stage in stages]


Algorithms: TypeAlias = str | Iterable[Named | Algorithm] | Selection


def selected(registry: Registry, asked: Algorithms) -> Selection:
    """Return the algorithms that ``asked`` stands for.

    ``asked`` is ``"auto"``, for all automatic ones, names of registered algorithms, tables as in a
    recipe and ``Algorithm`` values, or a selection, which is returned. Raises ``UnknownNameError``
    for an unknown name or parameter, ``InputError`` for another type, and ``AlgorithmError`` for
    an invalid parameter and for two algorithms that are not combined.
    """
    if isinstance(asked, Selection):
        return asked
    known = registry.algorithms()
    if asked == AUTO:
        _check_any(known)
        return Selection(tuple(each for each in known.values() if each.value.automatic))
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        remedy = f" Pass [{asked!r}]." if isinstance(asked, str) else ""
        raise InputError(
            f'algorithms: it is {asked!r} (expected "auto", or a list of names and of Algorithm '
            f"values).{remedy}"
        )
    chosen = [supplied(each, registry) for each in asked]
    _check_conflicts(chosen)
    position = {name: number for number, name in enumerate(known)}
    chosen.sort(key=lambda each: position.get(each.value.name, len(position)))
    return Selection(tuple(_in_stages(chosen)), named=True)


def _check_any(known: Collection[str]) -> None:
    if not known:
        raise InputError(
            'algorithms: "auto" stands for none, since no loaded plugin supplies any (expected '
            "that of qreg, 'algorithms'). Load it too, with QREG_LOAD_PLUGINS or load=."
        )


def supplied(each: object, registry: Registry) -> Supplied[Algorithm]:
    """Return the algorithm that a name, a table or an ``Algorithm`` stands for.

    Raises as :func:`selected`.
    """
    known = registry.algorithms()
    if isinstance(each, Algorithm):
        same = _registered(each, registry)
        return Supplied(
            each, same.source if same else Plugin(each.name, IN_PROCESS, "", load=object)
        )
    parameters = dict(each) if isinstance(each, Mapping) else {}
    name = parameters.pop("name", None) if isinstance(each, Mapping) else each
    if not isinstance(name, str):
        raise InputError(f"algorithms: {each!r} is not a name or an Algorithm.")
    if parameters.get("in_process"):
        raise AlgorithmError(
            "it was a value of another process, and no plugin registers it. Supply it with a "
            "plugin, and omit in_process; a recipe with its table [record] does not need it",
            name,
        )
    if name not in known:
        remedy = "`qreg ops` lists what each of them does."
        raise UnknownNameError("algorithm", name, known, remedy)
    found = known[name]
    return evolve(found, value=found.value.with_parameters(**parameters)) if parameters else found


def _registered(algorithm: Algorithm, registry: Registry) -> Supplied[Algorithm] | None:
    """Return the registered algorithm that one is a variant of, if any."""
    found = registry.algorithms().get(algorithm.name)
    return found if found and algorithm.is_variant_of(found.value) else None


def named(algorithm: Algorithm, registry: Registry) -> Named:
    """Return what names an algorithm in a recipe, with the parameters that are not the default.

    An algorithm that no plugin registers has ``in_process``, and all its parameters.
    """
    found = _registered(algorithm, registry)
    if found is None:
        return {"name": algorithm.name, "in_process": True, **algorithm.parameters}
    default = found.value.parameters
    changed = {
        name: value for name, value in algorithm.parameters.items() if value != default.get(name)
    }
    return {"name": algorithm.name, **changed} if changed else algorithm.name


def _in_stages(chosen: Sequence[Supplied[Algorithm]]) -> list[Supplied[Algorithm]]:
    return [
        each
        for stage in STAGES
        for each in in_order([one for one in chosen if one.value.stage == stage], "algorithms")
    ]


def _check_conflicts(chosen: Sequence[Supplied[Algorithm]]) -> None:
    names = [each.value.name for each in chosen]
    for each in chosen:
        rivals = [name for name in each.value.conflicts if name in names]
        if rivals:
            raise AlgorithmError(
                f"it is not combined with {rivals[0]!r}: name one of them", each.value.name
            )
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise InputError(f"algorithms: {name!r} is there {names.count(name)} times.")
