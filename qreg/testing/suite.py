"""Base of the parts of the suite: the plugin, and a test run for each of its values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar
from unittest import SkipTest

from qreg.testing.subject import Samples, Subject

# The argument of a test, and the values of the plugin that the test is run for.
PARAMETERS = {
    "annotator": "annotators",
    "config": "configs",
    "supplied_backend": "backends",
    "algorithm": "algorithms",
}


class Suite:
    """A plugin by the name of its entry point, the backend it adds to, and its samples.

    ``samples`` has one :class:`~qreg.testing.Sample` or more under the name of each annotator,
    config, backend and algorithm that the plugin supplies. ``also`` names other plugins that it
    needs.
    """

    plugin: ClassVar[str] = ""
    backend: ClassVar[str] = ""
    samples: ClassVar[Samples] = {}
    also: ClassVar[Sequence[str]] = ()

    @classmethod
    def subject(cls) -> Subject:
        """Return the subject, which is made once for each suite."""
        return _subject(cls)  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def working(cls) -> Subject:
        """Return the subject if its plugin works; otherwise skip the test."""
        try:
            works = cls.subject().loaded.works
        except AssertionError:  # it is not installed
            works = False
        if not works:
            raise SkipTest("the plugin was skipped: see test_it_is_accepted")
        return cls.subject()

    @classmethod
    def values(cls, argument: str) -> list[str]:
        """Return the values to run tests with this argument for; empty if the plugin is broken."""
        try:
            return list(getattr(cls.working(), PARAMETERS[argument]))
        except SkipTest:
            return []

    def pytest_generate_tests(self, metafunc: Any) -> None:
        for argument in PARAMETERS:
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, self.values(argument))


@cache
def _subject(suite: type[Suite]) -> Subject:
    assert suite.plugin, (
        f"{suite.__name__} does not name its plugin: plugin = 'the name of its entry point'"
    )
    assert suite.backend, f"{suite.__name__} does not name its backend: backend = 'xnnpack'"
    return Subject(suite.plugin, suite.backend, suite.samples, suite.also)
