"""Long stages show a bar on a terminal and a line elsewhere, and are always timed."""

from __future__ import annotations

import re
import time

import pytest

from qreg.utils.progress import Stages


def run(stages: Stages) -> None:
    with stages, stages.stage("calibrate", 3) as step:
        for _ in range(3):
            step()


def test_each_stage_is_a_line_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    stages = Stages()
    run(stages)
    with stages, stages.stage("lower"):
        pass
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"calibrate after 3 of 3: \d+\.\d s\nlower: \d+\.\d s\n", err)


def test_nothing_is_printed_where_nobody_wants_it(capfd: pytest.CaptureFixture[str]) -> None:
    run(Stages(show=False))
    assert capfd.readouterr() == ("", "")


def test_a_bar_shows_rate_and_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    stages = Stages(show=True)
    with stages, stages.stage("calibrate", 4) as step:
        for _ in range(3):
            step()
            time.sleep(0.01)
        stages._bars.refresh()
    assert re.search(r"calibrate.*3/4.*[\d.]+/s.*0:00:0\d.*0:00:0\d", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (8, "stopped in calibrate after 2 of 8"),
        (None, "stopped in calibrate after 2 of an unknown number"),
    ],
)
def test_an_interrupt_says_how_far_it_came(total: int | None, message: str) -> None:
    def interrupted() -> None:
        stages = Stages(show=False)
        with stages, stages.stage("calibrate", total) as step:
            step()
            step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted()
    assert str(raised.value) == message


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
