"""Random numbers that depend on nothing but the place in the tests where they are drawn.

Weights are made while a module is imported, inputs in a test or a fixture. Each import, fixture
and test has a seed, so what it draws does not depend on the order of the tests, on the process that
runs them, or on who was the first to import a module. A seed set in a test goes before this one.
``pytest --seed 7`` draws other numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# They differ, because inputs that follow the numbers of the weights are not like others.
IMPORT, FIXTURE, TEST = 101, 102, 103
KINDS = 3


class Draw:
    """Which numbers this run draws: 0 are those of the default run."""

    number = 0


def seed_of(kind: int) -> int:
    """Return the seed of imports, fixtures or tests in this run."""
    return kind + KINDS * Draw.number


@contextmanager
def seeded(kind: int) -> Iterator[None]:
    """Seed torch, and give it back its numbers afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(kind))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="draw other random numbers")


def pytest_configure(config: pytest.Config) -> None:
    """Seed the import of each file of the tests that other tests import."""
    Draw.number = config.getoption("--seed")
    SourceFileLoader.exec_module = imported(SourceFileLoader.exec_module)  # type: ignore[method-assign]


def imported(execute: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(execute)
    def exec_module(loader: SourceFileLoader, module: ModuleType) -> None:
        if not is_of_the_tests(Path(loader.path)):
            return execute(loader, module)
        with seeded(IMPORT):
            execute(loader, module)

    return exec_module


def is_of_the_tests(path: Path) -> bool:
    return path.is_relative_to(ROOT) and "tests" in path.relative_to(ROOT).parts[:-1]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Seed the import of a test module, which pytest loads in its own way."""
    with seeded(IMPORT):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    """Seed what several tests share; the fixtures of one test draw with the test."""
    if fixturedef.scope == "function":
        return (yield)
    with seeded(FIXTURE):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    import torch

    torch.manual_seed(seed_of(TEST))
