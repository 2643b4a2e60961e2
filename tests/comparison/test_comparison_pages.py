"""What a finished comparison shows, as a table and as a page."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from attrs import evolve

from qreg.comparison import Comparison, Entry
from qreg.comparison.bars import panels
from qreg.comparison.page import plot
from qreg.comparison.text import rows
from qreg.comparison.winner import sentence, winner
from qreg.report.report import Report
from qreg.report.values import Sizes


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
            "2.0 times faster than float in torch, 2.8 times smaller than the float parameters"
        ) in text
        assert "15 % slower than float in torch, as large as the float parameters" in text


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


def test_the_page_loads_nothing_and_runs_what_it_names(tmp_path: Path) -> None:
    entries = (Entry("float", milliseconds=1.0, bytes=9), Entry("failing", failure="no kernel"))
    Comparison("Net", 5, 1, entries).save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<link|@import|url\(|\ssrc=|\son\w+=", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}';" in html.unescape(page)
    assert len(page) < 50_000
    Comparison("Net", 5, 1, ()).save_html(tmp_path / "page.html")  # a page for nothing too


PROGRAMS = (
    Entry("float", milliseconds=4.0, bytes=4_000),
    Entry("near", milliseconds=2.0, bytes=1_500, sqnr_to_float=41.0, verdict="good"),
    Entry("fast", milliseconds=1.0, bytes=1_600, sqnr_to_float=30.0, verdict="good"),
    Entry("wrong", milliseconds=0.5, bytes=1_000, sqnr_to_float=2.0, verdict="poor"),
    Entry("absent", failure="kernel: it is missing (expected one). Install it."),
)


def test_the_winner_is_the_fastest_program_that_is_close_to_float() -> None:
    found = Comparison("Net", 5, 1, PROGRAMS)
    assert sentence(found) == (
        "fast is the fastest of the programs that are close to float: 1 ms, 4.0 times faster than "
        "float in torch, 2.5 times smaller than the float parameters, 30.0 dB to float; near is "
        "smaller (1.5 kB); near is closer to float (41.0 dB)"
    )
    none = Comparison("Net", 5, 1, (PROGRAMS[0], *PROGRAMS[3:], Entry("compiled", bytes=3)))
    assert winner(none) is None
    assert (
        sentence(none) == "No program is close to float: 1 far from float, 1 not run here, 1 failed"
    )
    untimed = Entry("simulated", bytes=7, sqnr_to_float=20.0, verdict="good")
    assert sentence(Comparison("Net", 5, 1, (PROGRAMS[0], untimed))) == (
        "simulated is the smallest of the programs that are close to float: 571 times smaller than "
        "the float parameters, 20.0 dB to float"
    )


def test_the_plot_has_the_programs_where_their_numbers_are() -> None:
    drawn = plot(Comparison("Net", 5, 1, PROGRAMS))
    assert drawn is not None
    points = {each.label: each for each in drawn.points}
    assert set(points) == {"near", "fast", "wrong"}
    zero = next(each.at for each in drawn.across if each.text == "0")
    distances = [points[name].x - zero for name in ("wrong", "fast", "near")]
    assert distances == pytest.approx([distances[0] * each for each in (1, 2, 4)], abs=0.2)
    heights = {each.text: each.at for each in drawn.up}
    for_ten = heights["20 dB"] - heights["30 dB"]
    assert points["fast"].y - points["near"].y == pytest.approx(1.1 * for_ten, abs=0.2)
    area = points["fast"].radius ** 2 / points["wrong"].radius ** 2
    assert area == pytest.approx(1.6, rel=0.01)
    assert points["fast"].kinds == ("met", "best")
    assert points["wrong"].kinds == ()


def test_reports_are_written_next_to_the_page_and_linked(tmp_path: Path) -> None:
    report = Report("near", "Net", (), Sizes(4_000, 1_500), delegates=1)
    entries = [evolve(PROGRAMS[1], backend=name, report=report) for name in ("near", "../far")]
    found = Comparison("Net", 5, 1, (PROGRAMS[0], *entries))
    found.save_html(tmp_path / "compared.html")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"compared.html", "compared.near.html", "compared...%2Ffar.html"}
    page = (tmp_path / "compared.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]*)"', page)
    assert {unquote(each) for each in links} == names - {"compared.html"}
    assert "report" not in found.as_dict()["entries"][1]


def test_reasons_and_remedies_are_below_the_row_of_their_backend(tmp_path: Path) -> None:
    note = "output 0 of the program is 2.0 dB from the float model"
    report = Report("wrong", "Net", (), Sizes(4_000, None))
    poor = evolve(PROGRAMS[3], notes=(note,), report=report)
    Comparison("Net", 5, 1, (PROGRAMS[0], poor, PROGRAMS[4])).save_html(tmp_path / "page.html")
    page = html.unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    _, below = page.split("<tbody>")[1].split("wrong: report")
    of_poor, of_failed = below.split("absent")
    assert note in of_poor
    assert "Next: qreg.quantize(model, example_inputs" in of_poor
    assert "kernel: it is missing (expected one). Install it." in of_failed


def test_the_page_of_many_backends_is_small(tmp_path: Path) -> None:
    entries = [evolve(PROGRAMS[1], backend=f"backend_{n}", notes=("n" * 300,)) for n in range(40)]
    Comparison("Net", 5, 1, (PROGRAMS[0], *entries)).save_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 600_000
