"""Tests of a plugin's hooks: it loads, yields values, and is cheap to list."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import torch

import qreg
from qreg.errors import ConflictError, LoweringError, QregError
from qreg.plugins.registry import Registry
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.programs.export import export
from qreg.testing.listing import heavy_import
from qreg.testing.subject import Subject
from qreg.testing.suite import PARAMETERS, Suite

CLASH = ("it yields", "it replaces")  # the beginnings of the host's messages about a taken name
STRANGER = "a-backend-of-nobody"


class Stranger:
    """A backend that no plugin knows."""

    @qreg.hookimpl
    def qreg_backends(self) -> list[Backend]:
        return [Backend(STRANGER, "for a test", "none", "nothing", ".none")]


class HookTests(Suite):
    """The plugin is well-formed, cheap to list, and adds only to its backend, under free names."""

    def test_it_is_accepted(self) -> None:
        error = self.subject().loaded.error
        if error is None or error.problem.startswith(CLASH):
            return
        where = f"in {error.hook}, " if error.hook else ""
        raise AssertionError(
            f"the host skips the plugin: {where}{error.problem}. Correct the hook: its name, "
            "arguments and the type of its values must be those of a hook in "
            "qreg.plugins.hookspecs, and it must be marked with @qreg.hookimpl."
        ) from error

    def test_its_names_are_free(self) -> None:
        subject = self.subject()
        error = subject.loaded.error
        assert error is None or not error.problem.startswith(CLASH), (
            f"{error.problem if error else ''}. Rename yours, or, to replace the other "
            "annotator, pass replaces=[its name] to Annotator(...)"
        )
        for name in subject.backends or [subject.backend]:
            try:
                subject.registry.backend(name)
            except ConflictError as conflict:
                raise AssertionError(f"{conflict} Or rename the backend that is yours.") from None
            except QregError:
                continue  # covered by another test

    def test_it_adds_something_to_its_backend(self) -> None:
        subject = self.working()
        found = subject.registry.backends()
        assert subject.backend in found, (
            f"no backend {subject.backend!r} is installed, only {', '.join(found) or 'none'}: "
            "install its plugin, or correct `backend` in the suite"
        )
        adds = any(getattr(subject, kind) for kind in PARAMETERS.values())
        assert adds or hasattr(subject.loaded.instance, "qreg_lower"), (
            f"the plugin yields nothing for {subject.backend!r}: compare that name with the one "
            "in its hooks"
        )

    def test_listing_it_imports_no_torch(self) -> None:
        place = heavy_import(self.working().plugins)
        assert place is None, (
            f"listing the plugins imports torch, or a package that needs it, at {place}. Import it "
            "inside the function that uses it: `qreg list` needs milliseconds, torch seconds"
        )

    def test_it_answers_alike_each_time(self) -> None:
        subject = self.working()
        first, second = _names(subject), _names(_again(subject))
        assert first == second, (
            f"its hooks yield {first} on the first call and {second} on the second. Keep the "
            "values in a tuple: a module-level generator is exhausted by the first call"
        )

    def test_it_adds_to_no_other_backend(self) -> None:
        subject = self.working()
        registry = subject.fresh_registry({"stranger": Stranger()})
        supplied: dict[str, Supplied[Any]] = {
            **{each.value.name: each for each in registry.annotators(STRANGER)},
            **registry.configs(STRANGER),
        }
        mine = [name for name, each in supplied.items() if each.plugin == subject.plugin]
        assert not mine, (
            f"it yields {', '.join(mine)} for a backend that it does not know. Check in the hook: "
            f"if backend == {subject.backend!r}"
        )
        assert not _lowers(registry), (
            "its qreg_lower lowers for a backend that it does not own. Return None there"
        )

    def test_everything_has_a_sample(self) -> None:
        subject = self.working()
        names = {n: kind for kind in PARAMETERS.values() for n in getattr(subject, kind)}
        if not names:
            raise SkipTest("see test_it_adds_something_to_its_backend")
        missing = [
            f"{kind[:-1]} {name!r}" for name, kind in names.items() if name not in subject.samples
        ]
        assert not missing, (
            f"no sample for the {', the '.join(missing)}. Add one in which it applies: "
            "samples = {name: Sample(module, inputs)}"
        )
        unknown = sorted(subject.samples.keys() - names.keys())
        assert not unknown, (
            f"samples for {', '.join(unknown)}, which the plugin does not supply for "
            f"{subject.backend!r}. It supplies {', '.join(names) or 'nothing'}"
        )


def _again(subject: Subject) -> Subject:
    return Subject(subject.plugin, subject.backend, subject.samples, subject.also)


def _names(subject: Subject) -> list[str]:
    return [name for kind in PARAMETERS.values() for name in getattr(subject, kind)]


def _lowers(registry: Registry) -> bool:
    """Whether a plugin lowers for a backend that no plugin owns."""
    program = export(torch.nn.ReLU(), (torch.zeros(1),))
    try:
        registry.call_lower(STRANGER, program, {})
    except LoweringError as error:
        return error.__cause__ is not None  # a plugin tried
    return True
