"""The exceptions and warnings that qreg raises on purpose.

Each message names the subject, the place and the remedy. Each error has the same facts as fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


IN_PROCESS = "in-process"  # the distribution of a plugin that was passed as an object


class _Portable(Exception):
    """An error or a warning that can be pickled with its fields, to travel between processes."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[_Portable], args: tuple[object, ...], fields: dict[str, object]) -> object:
    """Return an error with its text and its fields, without calling its ``__init__``."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class QregError(_Portable):
    """Base class of all errors that qreg raises on purpose."""


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the names closest to a misspelt or shortened one, ignoring case and hyphens."""
    plain = {_plain(each): each for each in known}
    wanted = _plain(name)
    longer = [each for each in plain if len(wanted) > 1 and each.startswith(wanted)]
    found = dict.fromkeys([*get_close_matches(wanted, plain, count), *sorted(longer)])
    return [plain[each] for each in found][:count]


def _plain(name: str) -> str:
    return str(name).casefold().replace("-", "_")


class InstallationError(QregError, ImportError):
    """A package that is missing, or files of this library that another one has overwritten."""


class UnknownNameError(QregError, LookupError):
    """A name under which nothing is registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str) -> None:
        self.kind, self.name, self.known, self.remedy = kind, name, sorted(known), remedy
        guesses = " or ".join(map(repr, near(name, self.known)))
        guess = f" Did you mean {guesses}?" if guesses else ""
        listed = ", ".join(self.known) or "none"
        colon = ":" if kind.endswith("'") else ""  # between two names
        super().__init__(f"unknown {kind}{colon} {name!r}.{guess} Known: {listed}. {remedy}")


class UnknownArgumentError(UnknownNameError, TypeError):
    """An argument that a function does not have."""

    def __init__(self, function: str, name: str, known: Iterable[str]) -> None:
        listed = list(known)
        of_backend = "options" in listed and not near(name, listed)
        remedy = f"Pass options of the backend in options={{{name!r}: ...}}." if of_backend else ""
        super().__init__(f"argument of {function}()", name, listed, remedy)


class UnknownModuleError(QregError, LookupError):
    """A module name or type in a quantizer's config that no operator of the model comes from.

    ``near`` are similar names that the model has, and ``known`` some of all. ``folded_into`` is the
    module into whose layer the operators of the module were folded, such as those of a batch norm.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        near: Sequence[str],
        folded_into: str | None = None,
        known: Sequence[str] = (),
    ) -> None:
        self.kind, self.name, self.near, self.known = kind, name, tuple(near), tuple(known)
        self.folded_into = folded_into
        listed = f". Near: {', '.join(near)}" if near else f". Some: {', '.join(known)}"
        fact, remedy = listed if near or known else "", "Correct the name"
        if folded_into is not None:
            fact = f": its operators are folded into {folded_into!r} ahead of the quantizer"
            remedy = f"Name {folded_into!r}"
        super().__init__(
            f"no operator of the exported model comes from a module of {kind} {name!r}{fact}. "
            f"{remedy}, or create the quantizer with unknown_modules='warn' to ignore it."
        )


class UnknownCallError(UnknownModuleError):
    """A call of an operator in a quantizer's config that the model does not have.

    ``counts`` are the numbers of calls that the model has, by module and operator.
    """

    def __init__(
        self, module: str, operator: str, ordinal: int, counts: Mapping[tuple[str, str], int]
    ) -> None:
        self.module, self.operator, self.ordinal = module, operator, ordinal
        self.counts, self.folded_into, self.known = dict(counts), None, ()
        self.kind, self.name = "call", described_call(module, operator, ordinal)
        self.near = tuple(self._near())
        listed = f" Near: {'; '.join(self.near)}." if self.near else ""
        QregError.__init__(
            self,
            f"scope of {self.name}: the model has no such call.{listed} Decisions have the module, "
            "operator and ordinal of each operator. Correct the scope, or create the quantizer "
            "with unknown_modules='warn' to ignore it.",
        )

    def _near(self) -> list[str]:
        """Return the calls of the operator in the module, of others in it, or of near modules."""
        known = {key: each for key, each in self.counts.items() if key[1].count(".") == 2}
        own = {key: each for key, each in known.items() if key[0] == self.module}
        of_module = {operator for _, operator in own}
        named = (self.operator, *near(self.operator, of_module), *of_module)
        alike = list(dict.fromkeys(each for each in named if each in of_module))[:3]
        if self.operator in of_module:
            alike = [self.operator]
        if alike:
            return [_calls(self.module, each, own[self.module, each]) for each in alike]
        modules = {module for module, operator in known if operator == self.operator}
        return [
            _calls(module, self.operator, known[module, self.operator])
            for module in near(self.module, modules) or sorted(modules)[:3]
        ]


def described_call(module: str, operator: str, ordinal: int) -> str:
    """Describe one call of an operator: ``call 0 of 'aten.add.Tensor' in module 'block'``."""
    return f"call {ordinal} of {operator!r} in module {module!r}"


def _calls(module: str, operator: str, count: int) -> str:
    numbers = "call 0" if count == 1 else f"calls 0 to {count - 1}"
    return f"{numbers} of {operator!r} in module {module!r}"


def _with(distribution: str, version: str) -> str:
    return f"{distribution!r} {version}".rstrip()


class PluginError(QregError):
    """A plugin that could not be loaded, or a part of which failed; the cause is chained.

    ``hook`` names the hook, or the callable of a value that the plugin supplied. ``in_force``
    reports whether the plugin is used in spite of the fault.
    """

    def __init__(
        self,
        plugin: str,
        distribution: str,
        version: str,
        problem: str,
        hook: str | None = None,
        *,
        in_force: bool = False,
        remedy: str | None = None,
    ) -> None:
        self.plugin, self.distribution, self.version = plugin, distribution, version
        self.problem, self.hook, self.in_force = problem, hook, in_force
        where = f", in {hook}" if hook else ""
        verdict = "has a fault" if in_force else "is broken"
        super().__init__(
            f"plugin {plugin!r} of distribution {_with(distribution, version)} {verdict}{where}: "
            f"{problem}. {remedy or _without(plugin, distribution)}"
        )

    @property
    def summary(self) -> str:
        """The problem alone, prefixed with the hook in which it was found."""
        return f"{self.hook}: {self.problem}" if self.hook else self.problem


def _without(plugin: str, distribution: str) -> str:
    """Return the remedy for a plugin with a fault: update, remove or skip it."""
    if distribution == IN_PROCESS:
        return "Correct the object that was passed to Registry(plugins=...)."
    return (
        f"Update it, remove it with `pip uninstall {distribution}`, or skip it with "
        f"QREG_DISABLE_PLUGINS={plugin}."
    )


class ConflictError(PluginError):
    """A name that several plugins claim, so that none of them supplies it.

    ``claims`` are the name, distribution and version of each plugin. The error is attributed to
    the last one.
    """

    def __init__(
        self, kind: str, name: str, claims: Sequence[tuple[str, str, str]], hook: str | None = None
    ) -> None:
        self.kind, self.name, self.claims = kind, name, tuple(claims)
        self.distributions = tuple(distribution for _, distribution, _ in claims)
        plugins = " and ".join(f"{plugin!r} {version}".rstrip() for plugin, _, version in claims)
        skipped = " or ".join(f"QREG_DISABLE_PLUGINS={plugin}" for plugin, _, _ in claims)
        installed = set(self.distributions) != {IN_PROCESS}
        super().__init__(
            *claims[-1],
            f"the {kind} {name!r} is claimed by the distributions "
            f"{' and '.join(map(repr, self.distributions))} (plugins {plugins}), and none of them "
            "supplies it",
            hook,
            in_force=True,
            remedy=f"{'Uninstall or skip' if installed else 'Skip'} all but one: {skipped}.",
        )


class OrderError(QregError):
    """Annotators or algorithms whose ``before`` and ``after`` form a cycle."""

    def __init__(self, cycle: Sequence[str], kind: str = "annotators") -> None:
        self.cycle, self.kind = tuple(cycle), kind
        super().__init__(
            f"the order of {kind} has a cycle: {' -> '.join(cycle)}. "
            f"Remove one before/after of these {kind}."
        )


class BackendUnavailableError(QregError):
    """A backend whose packages or tools are missing or have an incompatible version."""

    def __init__(
        self, backend: str, problems: Sequence[str], pip: Sequence[str], others: Sequence[str] = ()
    ) -> None:
        self.backend, self.problems = backend, tuple(problems)
        self.pip, self.others = tuple(pip), tuple(others)
        packages = f"pip install {' '.join(f'{item!r}' for item in pip)}"
        commands = " && ".join([*([packages] if pip else []), *others])
        super().__init__(
            f"backend {backend!r} cannot be used here: {'; '.join(problems)}. "
            f"Install its requirements with: {commands}"
        )


class ConfigError(QregError, ValueError):
    """A quantization config that cannot be used."""


class AnnotatorError(QregError):
    """An annotator that raised or returned an invalid value; the cause is chained."""

    def __init__(
        self,
        annotator: str,
        distribution: str,
        version: str,
        targets: Sequence[str],
        node: str,
        problem: str,
    ) -> None:
        self.annotator, self.distribution, self.version = annotator, distribution, version
        self.targets, self.node, self.problem = tuple(targets), node, problem
        given = distribution == IN_PROCESS
        remedy = (
            "Correct the annotator."
            if given
            else "Report it to that distribution, or uninstall it."
        )
        super().__init__(
            f"annotator {annotator!r} of distribution {_with(distribution, version)} failed at "
            f"node {node!r}: {problem}. {remedy}"
        )


class InputError(QregError, ValueError):
    """Input of a user that cannot be used: a model, a file, a path, an option."""


def several(what: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple.

    Raises ``InputError`` for a single string, which is an iterable of letters too.
    """
    if isinstance(names, str):
        raise InputError(
            f"{what}: {names!r} is one string (expected a list of names). Write [{names!r}]."
        )
    return tuple(names)


class CalibrationError(InputError):
    """Calibration data or other inputs that do not match the inputs of the model."""

    def __init__(
        self,
        problem: str,
        batch: int | None = None,
        input: str | None = None,
        what: str = "calibration batch",
    ) -> None:
        self.problem, self.batch, self.input = problem, batch, input
        where = "" if batch is None else f"{what} {batch}: "
        which = "" if input is None else f"input {input!r}: "
        super().__init__(f"{where}{which}{problem}")


class ExportError(InputError):
    """A model that torch.export does not support; torch's own error is chained."""


class NothingQuantizedError(QregError):
    """A model in which no operator would be quantized."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = Counter(reasons)
        counted = "\n".join(f"  {n:5d} x {reason}" for reason, n in self.reasons.most_common())
        super().__init__(
            "nothing in this model would be quantized:\n"
            f"{counted or '        the graph has no operators'}\n"
            "Choose another config or scope, or pass allow_float=True to continue in float."
        )


class EvaluationError(QregError):
    """A user's ``evaluate`` that raised, or returned something other than a number.

    ``model`` is what was evaluated. The error of ``evaluate`` is chained.
    """

    def __init__(self, model: str, problem: str, remedy: str = "") -> None:
        self.model, self.problem, self.remedy = model, problem, remedy
        super().__init__(
            f"evaluate: {problem} for {model} (expected a number). "
            f"{remedy or 'Correct the function'}."
        )


class TargetMissedError(QregError):
    """A search that found no program within the limit.

    ``tuned`` is its result, with the best program.
    """

    def __init__(self, message: str, tuned: object = None) -> None:
        self.tuned = tuned
        super().__init__(message)


class AlgorithmError(QregError):
    """An algorithm that failed, or made a change that is not allowed; the cause is chained.

    ``algorithm`` is its name, once it is known.
    """

    def __init__(self, problem: str, algorithm: str = "", source: str = "") -> None:
        self.problem, self.algorithm, self.source = problem, algorithm, source
        who = f"algorithm {algorithm!r}{source}: " if algorithm else ""
        super().__init__(f"{who}{problem}.")

    def of(self, algorithm: str, source: str) -> AlgorithmError:
        """Return the same error with the name of the algorithm and its distribution."""
        return AlgorithmError(self.problem, algorithm, source)


class RecipeError(InputError):
    """A recipe that cannot be read, or that does not belong to the model."""


class BundleError(InputError):
    """A folder that is not a bundle, or a bundle that is damaged or of a newer version."""


class PrecisionWarning(UserWarning):
    """A model in half precision that was converted to float32 to be quantized."""


class RecipeWarning(UserWarning):
    """A recipe that was made with other versions, so that the program may differ."""


class AlgorithmWarning(UserWarning):
    """An algorithm that failed on a model and was undone."""


class WorkWarning(UserWarning):
    """Work that cannot be kept in its folder, so that a run that is stopped does it again."""


class PreparationError(QregError):
    """A prepared model whose output does not match that of its float model.

    ``operator`` is the name in the float graph of the first operator that differs. ``module`` is
    the module that the operator comes from. ``sqnr`` is its SQNR to float in dB.
    """

    def __init__(self, operator: str, module: str, sqnr: float, floor: float) -> None:
        self.operator, self.module, self.sqnr = operator, module, sqnr
        where = f" of module {module!r}" if module else ""
        super().__init__(
            f"prepared model: {operator}{where} is the first to differ from the float model, at "
            f"{sqnr:.1f} dB before anything is quantized (expected at least {floor:.0f}). A "
            "transform of the backend changes the outputs of the model. Report it to the "
            "distribution of the backend, with the model."
        )


class WorkerError(QregError):
    """A worker that ended, or that lacks what a job needs, or a job whose error cannot be pickled.

    ``job`` is the number of the job. ``host`` is the name of the worker's machine, and
    ``distribution`` what it lacks; both are empty otherwise.
    """

    def __init__(
        self, problem: str, job: int | None = None, *, host: str = "", distribution: str = ""
    ) -> None:
        self.problem, self.job, self.host, self.distribution = problem, job, host, distribution
        where = f"worker on host {host!r}" if job is None else f"job {job}"
        super().__init__(f"{where}: {problem}.")


class ProgramError(QregError):
    """A program that fails to lower, load, run or verify.

    ``suspects`` are the operators that may have caused it. ``remedy`` is a sentence on how to
    handle these operators. ``calls`` are the operators that the remedy keeps in float: the module,
    the operator and the ordinal of each, as in its Decision.
    """

    calls: tuple[tuple[str, str, int], ...] = ()

    def __init__(self, problem: str, suspects: Sequence[str] = (), remedy: str = "") -> None:
        self.problem, self.suspects, self.remedy = problem, tuple(suspects), remedy
        named = f"Suspects: {', '.join(suspects)}." if suspects else ""
        more = " ".join(filter(None, (named, remedy)))
        ended = problem if not more or problem.endswith((".", "?", "!")) else f"{problem}."
        super().__init__(f"{ended} {more}".rstrip())

    def suspecting(self, *suspects: str, remedy: str = "") -> Self:
        """Return the same error with more suspects, listed ahead of the present ones."""
        return type(self)(self.problem, [*suspects, *self.suspects], remedy or self.remedy)


class LoweringError(ProgramError):
    """A program that the backend could not lower; the backend's own error is chained.

    ``plugin``, ``distribution``, ``version`` and ``hook`` identify the lowering that failed. They
    are empty if no plugin lowers for the backend.
    """

    def __init__(
        self,
        problem: str,
        suspects: Sequence[str] = (),
        remedy: str = "",
        *,
        plugin: str = "",
        distribution: str = "",
        version: str = "",
        hook: str = "",
    ) -> None:
        self.plugin, self.distribution = plugin, distribution
        self.version, self.hook = version, hook
        super().__init__(problem, suspects, remedy)

    def suspecting(self, *suspects: str, remedy: str = "") -> Self:
        """Return the same error with more suspects, listed ahead of the present ones."""
        found = super().suspecting(*suspects, remedy=remedy)
        found.plugin, found.distribution = self.plugin, self.distribution
        found.version, found.hook = self.version, self.hook
        return found


class UnsupportedOperatorError(LoweringError):
    """An operator that the runtime of a backend has no kernel for.

    ``operators`` are their names in torch. No scope helps, since they are in float already.
    """

    def __init__(self, problem: str, operators: Sequence[str], remedy: str) -> None:
        super().__init__(problem, remedy=remedy)
        self.operators = tuple(operators)

    def suspecting(self, *suspects: str, remedy: str = "") -> Self:
        """Return the error itself: its operators are known."""
        return self


class StateError(LoweringError, InputError):
    """A model that writes to its buffers, lowered for a backend whose programs are stateless."""


class VerificationError(ProgramError):
    """A lowered program that does not load, does not run, or returns unusable outputs."""


class LoadError(VerificationError):
    """A lowered program that its runtime cannot load."""


class RunError(VerificationError):
    """A lowered program that its runtime loads but fails to run."""


class HangError(VerificationError):
    """A lowered program whose runtime had no outputs in time, and was ended."""


class CrashError(VerificationError):
    """A lowered program whose runtime ended its process."""


class NaNError(VerificationError):
    """A lowered program that returns NaN."""


class QualityWarning(_Portable, UserWarning):
    """A program that runs as quantized but is far from the float model.

    ``verification`` is a :class:`~qreg.verification.verify.Verification` with the numbers and the
    operators. ``warnings.simplefilter("error", qreg.errors.QualityWarning)`` makes it an error.
    """

    def __init__(self, message: str, verification: object = None) -> None:
        self.verification = verification
        super().__init__(message)


class TargetMissedWarning(UserWarning):
    """A search that found no program within the limit; its best program is returned."""


class UnknownOperatorWarning(_Portable, UserWarning):
    """An operator in a quantizer's config that the model does not have, so that it has no effect.

    ``known`` are the operators of the model when it is annotated. By then, composites are
    decomposed unless annotators start from them.
    """

    def __init__(self, operator: str, known: Iterable[str]) -> None:
        self.operator, self.known = operator, tuple(sorted(known))
        self.near = tuple(near(operator, self.known))
        guess = f" Did you mean {' or '.join(map(repr, self.near))}?" if self.near else ""
        super().__init__(
            f"scope of operator {operator!r}: the scope has no effect, since the annotated model "
            f"has no such operator (expected one of {', '.join(self.known) or 'none'}).{guess}"
        )


def keeping_in_float(scopes: Sequence[str]) -> str:
    """Return a sentence with the line of code that makes these calls; empty without calls."""
    if not scopes:
        return ""
    calls = ".".join(dict.fromkeys(scopes))
    return f"Keep {'it' if len(scopes) == 1 else 'them'} in float: quantizer.{calls}"
