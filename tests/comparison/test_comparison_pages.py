"""What a finished comparison shows, as a table and as a page."""

from __future__ import annotations

import math
import re
from pathlib import Path

from qreg.comparison import Comparison, Entry
from qreg.comparison.bars import panels
from qreg.comparison.text import rows


def test_what_was_not_run_says_so_and_why() -> None:
    entries = (
        Entry("compiling", bytes=10, operators=2, int8_operators=2, int8_share=1.0),
        Entry("simulated", sqnr_to_float=40.0, notes=("its runtime is a simulator",)),
        Entry("failing", failure="<b>no</b> [bold]such[/bold] kernel"),
    )
    found = Comparison("Net", rounds=5, threads=None, entries=entries)
    text = str(found)
    assert "not run here" in text
    assert "simulated: its runtime is a simulator" in text
    assert "failing: <b>no</b> [bold]such[/bold] kernel" in text
    assert "as many threads as each runtime chooses" in text


def test_programs_are_compared_with_the_float_model_in_words(tmp_path: Path) -> None:
    entries = (
        Entry("float", bytes=2800, milliseconds=1.0),
        Entry("fast", bytes=1000, milliseconds=0.5),
        Entry("slow", bytes=2800, milliseconds=1.15),
    )
    found = Comparison("Net", rounds=5, threads=1, entries=entries)
    found.save_html(tmp_path / "page.html")
    for text in (str(found), (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert (
            "fast: 2.0 times faster than float in torch, "
            "2.8 times smaller than the float parameters"
        ) in text
        assert ("slow: 15 % slower than float in torch, as large as the float parameters") in text


def test_what_comes_from_a_model_is_not_part_of_the_code_of_the_page(tmp_path: Path) -> None:
    entry = Entry("<script>alert(1)</script>", failure="<img src=x onerror=alert(2)>")
    good = Entry("<script>alert(3)</script>", milliseconds=1.0, bytes=1)
    Comparison("</title><script>", 1, 1, (entry, good)).save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "</title><script>" not in page


def test_a_row_has_the_verdict_on_its_program() -> None:
    entries = (
        Entry("near", sqnr_to_float=40.0, verdict="good"),
        Entry("far", sqnr_to_float=3.0, verdict="poor", notes=("output 0 is 3.0 dB",)),
    )
    found = Comparison("Net", 5, 1, entries)
    listed = {row["backend"]: (row["SQNR to float"], row["verdict"]) for row in rows(found)}
    assert listed == {"near": ("40.0 dB", "good"), "far": ("3.0 dB", "poor")}
    assert "far: output 0 is 3.0 dB" in str(found)
    assert [each["verdict"] for each in found.as_dict()["entries"]] == ["good", "poor"]


def test_bars_are_as_long_as_the_ratio_and_begin_at_zero() -> None:
    entries = (
        Entry("float", milliseconds=40.0),
        Entry("fast", milliseconds=10.0, sqnr_to_float=30.0, int8_share=0.25),
        Entry("poor", milliseconds=20.0, sqnr_to_float=-10.0, int8_share=0.5),
        Entry("failing", failure="no such kernel"),
    )
    found = {panel.title: panel for panel in panels(Comparison("Net", 5, 1, entries))}
    latency = found["Latency"]
    assert [(bar.backend, bar.start, bar.length) for bar in latency.bars] == [
        ("float", 0, 100),
        ("fast", 0, 25),
        ("poor", 0, 50),
    ]
    assert [bar.plain for bar in latency.bars] == [True, False, False]
    sqnr = found["SQNR to float"]
    assert sqnr.zero == 25  # of -10 to 30 dB
    assert [(bar.start, bar.length) for bar in sqnr.bars] == [(25, 0), (25, 75), (0, 25)]
    shares = found["Multiply-accumulates in int8"]
    assert [bar.length for bar in shares.bars] == [0, 25, 50]  # of all, not of the largest


def test_a_bar_without_a_finite_value_has_words() -> None:
    values = (None, math.inf, -math.inf, math.nan, 20.0)
    entries = tuple(Entry(f"b{at}", sqnr_to_float=value) for at, value in enumerate(values))
    (panel,) = panels(Comparison("Net", 5, 1, entries))  # none for what nobody measured
    assert [bar.length for bar in panel.bars] == [0, 100, 0, 0, 100]
    assert [bar.text for bar in panel.bars[:2]] == ["—", "equal"]
    for other, expected in ((math.inf, [100, 100]), (0.0, [100, 0]), (-10.0, [50, 50])):
        pair = (Entry("a", sqnr_to_float=math.inf), Entry("b", sqnr_to_float=other))
        (panel,) = panels(Comparison("Net", 5, 1, pair))
        assert [bar.length for bar in panel.bars] == expected


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    entries = (Entry("float", milliseconds=1.0, bytes=9), Entry("failing", failure="no kernel"))
    Comparison("Net", 5, 1, entries).save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|@import|url\(|\ssrc=|\son\w+=", page)
    assert "default-src 'none'" in page
    assert len(page) < 50_000
    Comparison("Net", 5, 1, ()).save_html(tmp_path / "page.html")  # a page for nothing too
