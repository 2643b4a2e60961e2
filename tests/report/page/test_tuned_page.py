"""The page of a search in a browser: its plot, whole in any window, and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from qreg.tuning import Move, Place, Trial, Tuned, Variant

MOVE = Move((Place("m" * 100, "aten.conv2d.default", 0),), "float", 0.3)
TRIALS = (
    Trial(Variant("toy", "c" * 60), 0.80, bytes=4_000_000, milliseconds=4.0, evaluated=True),
    Trial(Variant("toy", "static", (), (MOVE,)), 0.99, True, bytes=1_000_000, milliseconds=8.0),
    Trial(Variant("toy", "other"), 0.85, bytes=4_000_000, milliseconds=9.0),
    Trial(Variant("toy", "broken"), failure="<b>no</b> " + "x" * 200),
)
CIRCLES = """
return [...document.querySelectorAll('.broad circle')].map(each => ({
  title: each.querySelector('title').textContent, of: each.getAttribute('class').split(' '),
  x: +each.getAttribute('cx'), y: +each.getAttribute('cy'), r: +each.getAttribute('r'),
}));
"""


def tuned(*trials: Trial) -> Tuned:
    best = trials[1] if len(trials) > 1 else None
    return Tuned("M" * 200, 1.0, 0.95, False, "latency", trials, best, best and best.metric)


def opened(driver: WebDriver, path: Path, found: Tuned, width: int = 1400) -> Any:
    found.save_html(path)
    driver.set_window_size(width, 1000)
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(path.as_uri())
    return driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )


@pytest.mark.parametrize("width", [1400, 420])
def test_the_trials_are_where_their_numbers_say(
    width: int, driver: WebDriver, tmp_path: Path
) -> None:
    before = driver.get_window_size()
    page, window = opened(driver, tmp_path / "tuned.html", tuned(*TRIALS), width)
    circles = {each["title"].split(":")[0]: each for each in driver.execute_script(CIRCLES)}
    asked = [each for each in driver.get_log("performance") if "http" in each["message"]]
    said = driver.get_log("browser")
    driver.set_window_size(before["width"], before["height"])
    assert page <= window
    first, met, other = (
        circles[f"toy {each}"] for each in ("c" * 60, "static, 1 pattern in float", "other")
    )
    assert first["x"] < met["x"] < other["x"]
    assert met["y"] < other["y"] < first["y"]
    assert first["r"] == pytest.approx(2 * met["r"])  # four times the area
    assert {"met", "best", "front"} <= set(met["of"])
    assert "front" in first["of"]
    assert "front" not in other["of"]
    assert said == []
    assert asked == []


def test_a_search_without_a_program_has_a_page(driver: WebDriver, tmp_path: Path) -> None:
    opened(driver, tmp_path / "tuned.html", tuned(TRIALS[3]))
    text = driver.find_element("css selector", "body").text
    assert "NOT MET: no program was evaluated" in text
    assert "<b>no</b>" in text
    assert driver.execute_script(CIRCLES) == []
