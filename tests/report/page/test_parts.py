"""What the page is made of, before it is a page."""

from __future__ import annotations

import hashlib
import html
import math
import re
from importlib.resources import files
from types import ModuleType

import pytest
from attrs import evolve

from qreg.report.cautions import cautions
from qreg.report.page import render
from qreg.report.page.cards import cards
from qreg.report.page.depth import depth
from qreg.report.page.details import texts
from qreg.report.page.labels import Circle, placed
from qreg.report.page.made_with import made_with
from qreg.report.page.modules import module_tree
from qreg.report.page.numbers import decibels, short, size
from qreg.report.page.picture import picture
from qreg.report.page.states import STATES, counted, state_of
from qreg.report.page.verdicts import Verdict, verdicts
from qreg.report.page.worst import worst
from qreg.report.values import Provenance, Sizes
from qreg.verification.latency import Timing

VENDOR = files("qreg.report.page").joinpath("vendor")


def test_no_two_states_look_alike_without_colour() -> None:
    assert len({(state.shape, state.border) for state in STATES}) == len(STATES)
    assert len({state.label for state in STATES}) == len(STATES)


def test_every_operator_has_a_state_of_its_own_right(reports: ModuleType) -> None:
    report = reports.everything()
    found = [state_of(each).key for each in report.operators]
    assert found == ["int8", "gone", "float", "float", "int8", "outside", "int8"]
    assert counted(report)["input"] == 1
    assert counted(reports.decided()) == {"to-int8": 1, "to-float": 1, "input": 1}


def test_a_module_has_the_sums_of_all_below_it(reports: ModuleType) -> None:
    features = module_tree(reports.everything()).children["features"]
    assert (features.operators, features.int8, features.sqnr) == (5, 2, -2.5)
    assert (features.macs, features.int8_macs) == (4 * 1_234_567, 2 * 1_234_567)
    assert list(features.children) == ["0", "1"]
    assert features.children["0"].children["conv"].path == "features.0.conv"


def test_bars_are_as_long_as_the_ratio_and_begin_at_zero(reports: ModuleType) -> None:
    bars = worst(reports.everything())
    assert [bar.name for bar in bars][:2] == ["conv2d_1", "add"]
    first, second = bars[:2]
    assert first.start + first.length == pytest.approx(second.start, abs=0.02)  # below 0 dB
    assert first.length / second.length == pytest.approx(2.5 / 22.8, abs=0.001)
    assert bars[-1].start + bars[-1].length == pytest.approx(100, abs=0.02)


def test_bars_of_patterns_are_as_long_as_their_noise(reports: ModuleType) -> None:
    first, second = worst(reports.sensitive())
    assert (first.name, second.name) == ("linear", "conv2d")
    assert (first.label, second.label) == ("linear", "conv2d, relu")
    assert (first.start, first.length) == (0.0, 100.0)
    assert second.length == pytest.approx(100 * 10 ** (-0.3), abs=0.01)
    share = 10**-2.7 / (10**-2.7 + 10**-3)
    assert first.value == f"{-10 * math.log10(1 - share):.2f} dB"
    assert first.note == "27.0 dB alone"


def test_the_chart_has_a_line_of_operators_and_a_point_for_each_pattern(
    reports: ModuleType,
) -> None:
    found = depth(reports.sensitive())
    assert found is not None
    line = [tuple(map(float, pair.split(","))) for pair in found.line.split()]
    assert len(line) == 6  # of 7 operators, one is equal
    assert [point.name for point in found.points] == ["conv2d", "linear"]
    assert found.points[0].text == "conv2d: 30.0 dB"
    heights = {"relu": 31.4, "conv2d": 38.2}
    (x, top), (_, below) = line[:2]
    ticks = {tick.label: tick.y for tick in found.ticks}
    assert x == pytest.approx(found.width / 14, abs=0.1)
    for_ten = (ticks["0 dB"] - ticks["30 dB"]) / 3
    gap = (heights["conv2d"] - heights["relu"]) / 10 * for_ten
    assert below - top == pytest.approx(gap, abs=0.2)
    assert found.points[0].y == ticks["30 dB"]
    assert all(0 <= y <= found.height for _, y in line)


def test_without_noise_there_is_no_chart(reports: ModuleType) -> None:
    assert depth(reports.decided()) is None


def test_only_edges_between_int8_and_float_are_marked(reports: ModuleType) -> None:
    edges = picture(reports.everything())["edges"]
    marked = {(edge["from"], edge["to"]) for edge in edges if edge["changes"]}
    between = {("relu", "sigmoid"), ("conv2d_1", "add"), ("add", "view"), ("view", "linear")}
    assert marked == between


def test_cards_warn_of_what_is_not_as_it_could_be(reports: ModuleType) -> None:
    assert {card.label for card in cards(reports.everything()) if card.warns} == {"Delegates"}
    assert {card.label for card in cards(reports.decided()) if card.warns} == set()


def test_verdicts_are_in_words_with_the_numbers_of_the_report(reports: ModuleType) -> None:
    report = evolve(reports.everything(), defects=())
    found = [(each.kind, each.words, each.note) for each in verdicts(report)]
    assert found == [
        ("good", "Close to float", "28.4 dB at worst, 4 inputs in executorch"),
        ("good", "3.9 times smaller", "361 kB, float parameters 1.4 MB"),  # 1,400 / 361
        ("good", "2.4 times faster", "1.02 ms, float takes 2.41 ms"),  # 2.41 / 1.02
    ]
    assert verdicts(reports.everything())[0].kind == "warn"  # it has a defect
    assert [each.kind for each in verdicts(reports.decided())] == ["open"] * 3
    poor = evolve(report.verification, min_sqnr=30.0)
    assert verdicts(evolve(report, verification=poor))[0] == Verdict(
        "Accuracy",
        "bad",
        "Far from float",
        "28.4 dB at worst, 4 inputs in executorch; below 30 dB",
    )
    equal = evolve(report, timing=Timing(1.0, 1.01, 50), sizes=Sizes(100, 120))
    assert [(each.kind, each.words) for each in verdicts(equal)[1:]] == [
        ("warn", "20 % larger"),
        ("warn", "As fast as float"),
    ]


def test_kinds_of_verdicts_differ_in_shape(reports: ModuleType) -> None:
    pages = [
        render(evolve(reports.everything(), defects=())),
        render(reports.everything()),
        render(evolve(reports.everything(), timing=Timing(1.0, 2.0, 50))),
        render(reports.decided()),
    ]
    marks = ("circle", "polygon", "polygon", "circle")
    for page, kind, mark in zip(pages, ("good", "warn", "bad", "open"), marks, strict=True):
        banner = page.split('<section class="banner"')[1].split("</section>")[0]
        sign = banner.split(f'data-kind="{kind}"')[1].split("</svg>")[0]
        assert f'<{mark} class="outline"' in sign
    drawn = {page.split('class="outline"')[1].split("/>\n")[0] for page in pages[:2]}
    assert len(drawn) == 2


def test_no_label_covers_another_label_or_circle() -> None:
    """Eleven circles at nearly one place, and three apart."""
    near = [Circle(300 + 3 * n, 150 + 2 * n, 8 + n, str(n)) for n in range(11)]
    apart = [Circle(100, 50, 22, "a"), Circle(600, 300, 5, "a long name"), Circle(850, 9, 5, "b")]
    circles = [*near, *apart]
    found = placed(circles, (0, 0, 860, 380))
    assert found[11].inside
    boxes = [
        (each.x - 3.8 * len(c.label), each.x + 3.8 * len(c.label), each.y - 7, each.y + 7)
        for each, c in zip(found, circles, strict=True)
    ]
    for number, (left, right, top, bottom) in enumerate(boxes):
        assert 0 <= left < right <= 860
        assert 0 <= top < bottom <= 380
        for other, (l2, r2, t2, b2) in enumerate(boxes):
            assert number == other or right <= l2 or r2 <= left or bottom <= t2 or b2 <= top
        for other, circle in enumerate(circles):
            if number != other:
                x = min(max(circle.x, left), right) - circle.x
                y = min(max(circle.y, top), bottom) - circle.y
                assert math.hypot(x, y) >= circle.radius - 1


def test_made_with_has_whole_hashes() -> None:
    made = Provenance({"torch": "2.13"}, "x86_64", {"threads": 1}, 4, "a" * 64, "b" * 64)
    assert made_with(made) == [
        ("versions", "torch 2.13"),
        ("processor", "x86_64"),
        ("options", "threads=1"),
        ("calibration", f"4 batches, SHA-256 {'a' * 64}"),
        ("recipe", f"SHA-256 {'b' * 64}"),
    ]
    assert made_with(None) == []


def test_numbers_are_short() -> None:
    assert [short(n) for n in (12, 1234, 5_678_901, 999_999)] == ["12", "1.23 k", "5.68 M", "1 M"]
    assert [size(n) for n in (12, 361_000)] == ["12 bytes", "361 kB"]
    assert [decibels(x) for x in (31.44, float("inf"), float("-inf"))] == [
        "31.4 dB",
        "exact",
        "no signal",
    ]


def test_only_named_scripts_run_and_nothing_is_loaded(reports: ModuleType) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', render(reports.everything()))
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in html.unescape(policy[1]).split("; "))
    assert rules["default-src"] == "'none'"
    assert all(source.startswith("'sha256-") for source in rules["script-src"].split())


def test_the_vendored_library_is_the_one_that_its_table_names() -> None:
    table = VENDOR.joinpath("README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"\| `(\S+\.js)` \|.*`([0-9a-f]{64})` \|", table))
    assert named
    for name, digest in named.items():
        content = VENDOR.joinpath(name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert b"</script" not in content  # it is written into one


def test_what_to_know_first_stands_apart_and_once(reports: ModuleType) -> None:
    report = reports.everything()
    slow = evolve(report, timing=Timing(1.0, 1.15, 50), sizes=Sizes(300_000, 361_000))
    page = render(slow)
    for line in cautions(slow):
        assert page.count(line) == 1
    assert page.index("15 % slower than float; ") < page.index('<ul class="headlines">')
    _, small, fast = verdicts(slow)
    assert (fast.words, fast.kind) == ("15 % slower", "bad")
    assert (small.words, small.kind) == ("20 % larger", "warn")
    assert "What to know first" not in render(report)


def test_what_is_not_counted_is_said_on_its_card_and_its_node(reports: ModuleType) -> None:
    report = reports.everything()
    loop = evolve(report.operators[2], macs=0, uncounted="how often it runs is not known")
    found = evolve(report, operators=(*report.operators[:2], loop, *report.operators[3:]))
    work = next(card for card in cards(found) if card.label == "Multiply-accumulates in int8")
    assert (work.note, work.warns) == (
        "of 6.17 M; those of 1 operator are not counted",
        True,
    )
    assert "not counted: how often it runs is not known" in texts(loop, found.macs)
