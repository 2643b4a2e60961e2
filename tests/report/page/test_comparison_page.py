"""The page of a comparison in a browser: whole in any window, and without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from qreg.comparison import Comparison, Entry

LONG = "a_backend_of_somebody_" + "x" * 80
ENTRIES = (
    Entry("float", milliseconds=41.2, bytes=46_800_000),
    Entry(f"{LONG}1", "c" * 60, milliseconds=14.4, bytes=11_800_000, sqnr_to_float=38.2),
    Entry(f"{LONG}2", milliseconds=19.4, sqnr_to_float=-2.3, int8_share=0.5),
    Entry("failing", failure="f" * 200),
)
WIDTHS = """
return [...document.querySelectorAll('.bars .track')].map(track => [
  track.clientWidth,
  ...[...track.querySelectorAll('.fill')].map(fill => fill.getBoundingClientRect().width),
]);
"""


@pytest.mark.parametrize("width", [1400, 420])
def test_a_comparison_fits_into_a_window_and_its_bars_have_their_lengths(
    width: int, driver: WebDriver, tmp_path: Path
) -> None:
    path = tmp_path / "compared.html"
    Comparison("M" * 200, 50, 1, ENTRIES).save_html(path)
    before = driver.get_window_size()
    driver.set_window_size(width, 1000)
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(path.as_uri())
    page, window = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    latencies = driver.execute_script(WIDTHS)[:3]
    asked = [each for each in driver.get_log("performance") if "http" in each["message"]]
    said = driver.get_log("browser")
    driver.set_window_size(before["width"], before["height"])
    assert page <= window
    for (track, bar), share in zip(latencies, (1, 14.4 / 41.2, 19.4 / 41.2), strict=True):
        assert bar == pytest.approx(share * track, abs=1)
    assert said == []
    assert asked == []


def test_a_comparison_is_dark_where_the_system_is(driver: WebDriver, tmp_path: Path) -> None:
    path = tmp_path / "compared.html"
    Comparison("Net", 50, 1, ENTRIES).save_html(path)
    driver.get(path.as_uri())
    seen = []
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        seen.append(sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(","))))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen[0] > 3 * 200
    assert seen[1] < 3 * 50


LETTERS = """
return [...document.querySelectorAll('.plot text, h1, h2, p, td, .name, .number')]
  .filter((each) => each.checkVisibility() && each.textContent.trim())
  .map((each) => {
    const scale = each.getScreenCTM ? each.getScreenCTM().a : 1;
    return parseFloat(getComputedStyle(each).fontSize) * scale;
  });
"""


def test_a_comparison_can_be_read_on_a_phone(driver: WebDriver, tmp_path: Path) -> None:
    path = tmp_path / "compared.html"
    near = Entry("near", milliseconds=20.0, bytes=1000, sqnr_to_float=30.0, verdict="good")
    Comparison("Net", 50, 1, (*ENTRIES, near)).save_html(path)
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        driver.get(path.as_uri())
        sizes = driver.execute_script(LETTERS)
        width = driver.execute_script("return document.documentElement.scrollWidth")
        cell = driver.find_element("css selector", "td[data-label='SQNR to float']:not(:empty)")
        shown = driver.execute_script("return getComputedStyle(arguments[0]).display", cell)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width == 390
    assert len(sizes) > 40
    assert min(sizes) >= 9.5  # pixels
    assert shown == "grid"  # a row is a list of labels and values
