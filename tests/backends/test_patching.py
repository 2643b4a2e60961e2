"""A library is as before after it was patched, whatever happened meanwhile."""

from __future__ import annotations

import logging
import threading
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from qreg.backends.patching import patched, quiet


def test_attributes_are_replaced_for_the_time_of_the_block() -> None:
    library = SimpleNamespace(double=lambda x: 2 * x, name="library")
    with patched(
        (library, "double", lambda double: lambda x: double(x) + 1),
        (library, "name", lambda name: f"{name}, patched"),
    ):
        assert (library.double(3), library.name) == (7, "library, patched")
    assert (library.double(3), library.name) == (6, "library")


def test_changes_of_one_attribute_add_up_and_are_all_undone() -> None:
    library = SimpleNamespace(value=1)
    with patched((library, "value", lambda n: n + 1), (library, "value", lambda n: n * 10)):
        assert library.value == 20
        with patched((library, "value", lambda n: -n)):
            assert library.value == -20
        assert library.value == 20
    assert library.value == 1


def test_an_error_leaves_nothing_replaced() -> None:
    library = SimpleNamespace(one=1, two=2)

    def fail(value: int) -> int:
        raise RuntimeError("no")

    with (
        pytest.raises(RuntimeError, match="no"),
        patched((library, "one", lambda n: n + 1), (library, "two", fail)),
    ):
        pytest.fail("not reached")
    assert (library.one, library.two) == (1, 2)


def test_another_thread_sees_the_library_as_it_is_before_it_patches_it() -> None:
    library, seen = SimpleNamespace(value=1), []

    def other() -> None:
        def note(value: Any) -> Any:
            seen.append(value)
            return value

        with patched((library, "value", note)):
            pass

    with patched((library, "value", lambda n: n + 1)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(10)
    assert seen == [1]


def test_a_method_of_a_class_is_of_the_class_again() -> None:
    class Library:
        @classmethod
        def name(cls) -> str:
            return cls.__name__

    class Derived(Library):
        pass

    with patched((Library, "name", lambda name: staticmethod(lambda: f"not {name()}"))):
        assert Derived.name() == "not Library"
    assert (Library.name(), Derived.name()) == ("Library", "Derived")


def test_what_a_library_says_is_suppressed_and_then_heard_again(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    def say(text: str) -> None:
        warnings.warn(text, UserWarning, stacklevel=1)
        warnings.warn(f"{text} soon", FutureWarning, stacklevel=1)
        logging.getLogger("library").warning(text)

    with quiet("library"):
        say("everything")
    with quiet(categories=(UserWarning,), message="on|.*off"):
        for text in ("on", "it is off", "neither"):
            say(text)
    assert [str(each.message) for each in recwarn] == [
        *("on soon", "it is off soon", "neither", "neither soon"),
    ]
    assert caplog.messages == ["on", "it is off", "neither"]
