"""Pins what is looked for before any work: packages, their versions, and commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qreg import Backend, Requirement, Tool
from qreg.errors import BackendUnavailableError
from qreg.plugins.requirements import check_available

Install = Callable[..., Path]


def backend(*requires: Requirement, name: str = "far", tools: tuple[Tool, ...] = ()) -> Backend:
    return Backend(name, "", "none", "nothing", ".none", requires=requires, tools=tools)


def problem(wanted: Backend, *others: Backend) -> str:
    with pytest.raises(BackendUnavailableError) as caught:
        check_available(wanted, others)
    return str(caught.value)


@pytest.fixture
def runtime(distribution: Install) -> str:
    """An installed distribution of version 1.5."""
    distribution("far-runtime", "", version="1.5", entry_points="[console_scripts]\n")
    return "far_runtime"


def test_the_version_that_is_wanted_passes(runtime: str) -> None:
    check_available(backend(Requirement(runtime, "far-runtime>=1,<2")))


def test_a_pre_release_within_the_range_passes(distribution: Install) -> None:
    distribution("far-runtime", "", version="1.5.dev1", entry_points="[console_scripts]\n")
    check_available(backend(Requirement("far_runtime", "far-runtime>=1,<2")))


def test_extras_of_a_requirement_say_nothing_of_its_version(runtime: str) -> None:
    check_available(backend(Requirement(runtime, "far-runtime[fast]==1.5")))


@pytest.mark.parametrize("wanted", ["far-runtime>=2,<3", "far-runtime[fast]==1.4"])
def test_a_wrong_version_is_named_with_the_pip_line(runtime: str, wanted: str) -> None:
    message = problem(backend(Requirement(runtime, wanted)))
    assert "far-runtime 1.5 is installed (expected " in message
    assert f"pip install {wanted!r}" in message


def test_the_backend_that_holds_on_to_the_wrong_version_is_named(runtime: str) -> None:
    other = backend(Requirement(runtime, "Far_Runtime==1.5"), name="near")
    message = problem(backend(Requirement(runtime, "far-runtime>=2")), other)
    assert "; it is required by 'near': use separate environments" in message


def test_a_backend_that_is_content_with_any_version_is_not_to_blame(runtime: str) -> None:
    other = backend(Requirement(runtime, "far-runtime"), name="near")
    assert "near" not in problem(backend(Requirement(runtime, "far-runtime>=2")), other)


def test_all_that_is_missing_is_in_one_line(runtime: str) -> None:
    tool = Tool("no-such-compiler", "apt-get install no-such-compiler")
    wanted = backend(
        Requirement("no_such_module", "no-such==1"),
        Requirement(runtime, "far-runtime>=2"),
        tools=(tool,),
    )
    message = problem(wanted)
    assert "no_such_module is not installed; far-runtime 1.5 is installed" in message
    assert "the command no-such-compiler is missing" in message
    line = "pip install 'no-such==1' 'far-runtime>=2' && apt-get install no-such-compiler"
    assert message.endswith(line)


def test_a_command_on_the_path_passes() -> None:
    check_available(backend(tools=(Tool("sh", "apt-get install dash"),)))


def test_the_environment_may_name_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool("no-such-compiler", "apt-get install it", variable="MY_COMPILER")
    monkeypatch.setenv("MY_COMPILER", "sh")
    check_available(backend(tools=(tool,)))
    monkeypatch.setenv("MY_COMPILER", "no-such-compiler-either")
    message = problem(backend(tools=(tool,)))
    assert "command no-such-compiler-either, which MY_COMPILER names, is missing" in message


def test_a_requirement_that_pip_cannot_read_is_none() -> None:
    with pytest.raises(ValueError, match="'>>far' is not an argument of `pip install`"):
        Requirement("far", ">>far")
