"""What is drawn depends on nothing but the place where it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import seeding
import torch
from loading import module_of
from torch import Tensor

AT_IMPORT = torch.randn(3)


@pytest.fixture(scope="module")
def shared() -> Tensor:
    return torch.randn(3)


def of_a_fresh_generator(kind: int) -> Tensor:
    return torch.randn(3, generator=torch.Generator().manual_seed(seeding.seed_of(kind)))


@pytest.mark.parametrize("_", range(2))
def test_a_test_draws_the_same_numbers_whatever_was_drawn_before(_: int) -> None:
    assert torch.equal(torch.randn(3), of_a_fresh_generator(seeding.TEST))


def test_what_tests_share_does_not_draw_from_the_first_of_them(shared: Tensor) -> None:
    assert torch.equal(shared, of_a_fresh_generator(seeding.FIXTURE))
    assert torch.equal(torch.randn(3), of_a_fresh_generator(seeding.TEST))


def test_a_test_module_draws_from_its_own_seed() -> None:
    assert torch.equal(AT_IMPORT, of_a_fresh_generator(seeding.IMPORT))


def test_a_module_draws_the_same_whoever_imports_it_and_takes_no_numbers_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "ROOT", tmp_path)
    path = tmp_path / "tests/drawn.py"
    path.parent.mkdir()
    path.write_text("import torch\nVALUE = torch.randn(3)\n", encoding="utf-8")
    before = torch.randn(1)
    drawn = module_of(path, "drawn").VALUE
    after = torch.cat([before, torch.randn(1)])
    assert torch.equal(drawn, module_of(path, "drawn").VALUE)
    torch.manual_seed(seeding.seed_of(seeding.TEST))
    assert torch.equal(after, torch.cat([torch.randn(1), torch.randn(1)]))


def test_another_run_may_draw_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = seeding.IMPORT, seeding.FIXTURE, seeding.TEST
    seeds = set()
    for number in (0, 1, 2):
        monkeypatch.setattr(seeding.Draw, "number", number)
        seeds |= set(map(seeding.seed_of, kinds))
    assert len(seeds) == 9
