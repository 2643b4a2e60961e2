"""Long stages show a bar where somebody looks, are silent elsewhere, and are timed everywhere."""

from __future__ import annotations

import pytest

from qreg.progress import Stages


def run(stages: Stages) -> None:
    with stages, stages.stage("calibrate", 3) as step:
        for _ in range(3):
            step()


def test_nothing_is_printed_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    run(Stages())
    assert capfd.readouterr() == ("", "")


def test_a_bar_names_the_stage_and_counts_its_steps(capfd: pytest.CaptureFixture[str]) -> None:
    stages = Stages(show=True)
    with stages, stages.stage("calibrate", 3) as step:
        step()
        stages._bars.refresh()
        step()
    out, err = capfd.readouterr()
    assert out == ""
    assert "calibrate" in err


def test_each_stage_is_timed() -> None:
    stages = Stages()
    run(stages)
    assert list(stages.seconds) == ["calibrate"]
    assert stages.seconds["calibrate"] >= 0


def test_a_stage_that_fails_stops_the_bar_and_lets_the_error_through() -> None:
    stages = Stages(show=True)
    with pytest.raises(ValueError, match="broken"), stages, stages.stage("lower"):
        raise ValueError("broken")
    assert not stages._bars.live.is_started
