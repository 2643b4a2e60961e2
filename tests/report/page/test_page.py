"""The page in Chromium: what people do with it."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from selenium.webdriver.common.keys import Keys

from qreg import Registry
from qreg.pipeline.explain import explain
from qreg.report.page import render
from qreg.report.report import Report
from qreg.report.values import Sizes

Show = Callable[[Report], Any]
HOSTILE = "</script><img src=x onerror=alert(1)><b>'\"&amp;{{7*7}}<!--"


@pytest.mark.parametrize("kind", ["everything", "decided"])
def test_it_opens_without_a_message_and_asks_for_nothing(
    reports: ModuleType, show: Show, kind: str
) -> None:
    page = show(getattr(reports, kind)())
    page.run("qreg.select('conv2d')")
    assert page.messages() == []
    assert [url for url in page.requests() if not url.endswith("/report.html")] == []


def test_a_report_without_operators_opens(show: Show) -> None:
    page = show(Report("toy", "Nothing", (), Sizes(0, None)))
    assert page.messages() == []


def test_a_click_on_a_node_shows_its_decision_and_numbers(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click_node("linear")
    assert page.selected() == "linear"
    details = page.text("#details")
    for said in (
        "the pattern conv_relu is there",
        "annotated",
        "qreg-xnnpack",
        "static",
        "computes on quantized values",
        "qint8, qcint8, qcint32 -> qint8",
        "1 x 64 x 56 x ?",
        "1,234,567 (20.0 %)",
        "24.0 dB",
        "0.0123",
        "/models/net.py:12",
        "head",
    ):
        assert said in details


def test_inputs_and_users_lead_along_the_graph(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click_node("add")
    page.click("#details [data-node='relu']")
    assert page.selected() == "relu"
    page.click("#details [data-node='sigmoid']")
    assert page.selected() == "sigmoid"


def test_a_click_beside_the_nodes_clears_the_details(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click_node("linear")
    page.click("#clear")
    assert page.text("#details") == "No node is selected."


@pytest.mark.parametrize(
    ("typed", "found"),
    [("linear", "linear"), ("sigm", "sigmoid"), ("aten.view", "view"), ("features.1 add", "add")],
)
def test_search_finds_a_node_by_name_operator_or_module(
    reports: ModuleType, show: Show, typed: str, found: str
) -> None:
    page = show(reports.everything())
    page.click("#search")
    page.press(typed, Keys.ENTER)
    assert page.selected() == found
    assert page.run("return qreg.graph.nodes('.chosen').map(n => n.data('node').name)") == [found]


def test_suggestions_are_chosen_with_keys_or_the_mouse(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.press("/", "conv", Keys.DOWN, Keys.ENTER)
    assert page.selected() == "conv2d_1"
    page.press("conv2d")
    page.click("#found li")
    assert page.selected() == "conv2d"


def test_search_says_when_there_is_no_such_node(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.press("/", "nonsense")
    assert page.text("#found").startswith("No node has this")
    page.press(Keys.ENTER)
    assert page.messages() == []


def test_search_brings_a_node_of_a_long_model_to_the_middle(
    reports: ModuleType, show: Show
) -> None:
    page = show(reports.long(2000))
    page.press("/", "conv2d_1777", Keys.ENTER)
    assert page.selected() == "conv2d_1777"
    at = page.run("return qreg.graph.nodes('.chosen').renderedPosition()")
    middle = page.run("return [qreg.graph.width() / 2, qreg.graph.height() / 2]")
    assert [at["x"], at["y"]] == pytest.approx(middle, abs=2)


def test_the_legend_dims_a_state(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click("[data-filter=float]")
    assert page.dimmed() == {"sigmoid", "conv2d_1"}
    page.click("[data-filter=outside]")
    assert page.dimmed() == {"sigmoid", "conv2d_1", "view"}
    page.click("[data-filter=float]")
    assert page.dimmed() == {"view"}


def test_a_module_shows_its_nodes_and_a_second_click_all(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click(".tree [data-module='features']")
    assert page.dimmed() == {"x", "view", "linear"}
    page.click(".tree [data-module='features']")
    assert page.dimmed() == set()


def test_the_module_of_a_node_is_opened_in_the_tree(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click_node("sigmoid")
    page.click("#details [data-module='features.0.gate']")
    assert page.text(".tree .chosen") == "gate"
    assert page.dimmed() == {"x", "conv2d", "relu", "conv2d_1", "add", "view", "linear"}


def test_the_tree_adds_up_what_is_below_a_module(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    rows = [row.split("\n") for row in page.text(".tree ul").split("\nfeatures\n")]
    assert rows[0] == ["TinyNet", "3/7", "60.0 %", "-2.5 dB"]
    assert rows[1][:3] == ["2/5", "50.0 %", "-2.5 dB"]


def test_the_worst_layers_lead_to_their_nodes(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    names = page.run(
        "return [...document.querySelectorAll('.chart .name')].map(b => b.textContent)"
    )
    assert names == ["conv2d_1", "add", "linear", "sigmoid", "relu", "conv2d"]
    page.click(".chart [data-node=linear]")
    assert page.selected() == "linear"


def test_the_most_sensitive_patterns_lead_to_their_nodes(reports: ModuleType, show: Show) -> None:
    page = show(reports.sensitive())
    assert "Most sensitive patterns" in page.text("#worst")
    names = page.run(
        "return [...document.querySelectorAll('.chart .name')].map(b => b.textContent)"
    )
    assert names == ["linear", "conv2d, relu"]
    page.click(".chart [data-node=linear]")
    assert page.selected() == "linear"
    assert "outputs, this pattern alone" in page.text("#details")


def test_a_point_of_the_chart_leads_to_its_node(reports: ModuleType, show: Show) -> None:
    page = show(reports.sensitive())
    page.click("#depth circle[data-node=conv2d]")
    assert page.selected() == "conv2d"
    assert page.messages() == []


def test_without_noise_it_says_how_to_measure_it(reports: ModuleType, show: Show) -> None:
    page = show(reports.decided())
    assert "--sensitivity" in page.text("#worst")
    assert "--numerics" in page.text("#worst")
    assert "Not verified" in page.text(".banner")
    assert "Not timed" in page.text(".banner")


def test_defects_are_named_before_everything_else(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    assert page.text(".defects h2").endswith(
        "1 operator was decided for int8 and does not run in it"
    )
    page.click(".defects [data-node=conv2d_1]")
    assert "Defect" in page.text("#details")


def test_the_graph_is_walked_with_the_keyboard(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.run("document.getElementById('graph').focus()")
    visited = []
    for key in (Keys.DOWN, Keys.DOWN, Keys.DOWN, Keys.UP):
        page.press(key)
        visited.append(page.selected())
    assert visited == ["x", "conv2d", "relu", "conv2d"]
    page.press(Keys.ESCAPE)
    assert page.text("#details") == "No node is selected."


def test_the_graph_follows_the_colours_of_the_system(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    node = "qreg.graph.getElementById('n:sigmoid').style('background-color')"
    body = "getComputedStyle(document.body).backgroundColor"
    light = page.run(f"return [{node}, {body}]")
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        page.wait(f"{node} !== '{light[0]}' && {body} !== '{light[1]}'")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert page.messages() == []


def test_what_a_model_says_of_itself_is_text_and_nothing_else(
    reports: ModuleType, show: Show
) -> None:
    page = show(reports.hostile(HOSTILE))
    assert HOSTILE in page.text("h1")
    page.press("/", "</script>")
    assert HOSTILE in page.text("#found")
    page.press(Keys.ENTER)
    assert page.selected() == HOSTILE
    assert page.text("#details").count(HOSTILE) >= 6
    page.click("#details [data-module]")
    page.click("#details [data-node='next']")
    assert page.selected() == "next"
    assert page.run("return document.querySelectorAll('img, b').length") == 0
    assert page.messages() == []


def test_two_thousand_nodes_pan_zoom_and_jump(reports: ModuleType, show: Show) -> None:
    page = show(reports.long(2000))
    frames = """
        const done = arguments[0];
        let left = 30;
        const frame = () => {
            qreg.graph.panBy({ x: 3, y: -40 });
            qreg.graph.zoom(qreg.graph.zoom() * (left % 2 ? 1.1 : 1 / 1.1));
            left -= 1;
            if (left) requestAnimationFrame(frame); else done(qreg.graph.pan().y);
        };
        requestAnimationFrame(frame);
    """
    assert page.driver.execute_async_script(frames) < 0
    top = page.run("return qreg.graph.extent().y1")
    page.click("#overview")  # in its middle
    assert page.run("return qreg.graph.extent().y1") > top + 10_000
    page.click("#zoom-top")
    page.click_node("conv2d_2")
    assert page.selected() == "conv2d_2"
    assert page.messages() == []


ROWS = """
const table = [...document.querySelectorAll('.sheet')].find(
  (each) => each.querySelector('h2').textContent === arguments[0]);
return [...table.querySelectorAll('tbody tr')].map(
  (row) => [...row.cells].map((cell) => cell.textContent));
"""


def test_the_numbers_in_the_tables_are_those_of_the_report(reports: ModuleType, show: Show) -> None:
    report = reports.everything()
    page = show(report)
    shown = {row[0]: row for row in page.run(ROWS, "Operators")}
    assert set(shown) == {each.name for each in report.operators}
    for each in report.operators:
        sqnr = "equal" if each.sqnr == float("inf") else f"{each.sqnr:.1f} dB"
        assert {each.module, each.place, sqnr, each.reason} <= set(shown[each.name])


def test_a_click_on_a_heading_sorts_by_the_numbers_and_again_the_other_way(
    reports: ModuleType, show: Show
) -> None:
    page = show(reports.everything())
    heading = "th:nth-child(6)"  # SQNR
    page.run("document.querySelector('[data-csv=\"operators.csv\"]').closest('.sheet').id = 'all'")
    assert page.text(f"#all {heading}").startswith("SQNR")
    page.click(f"#all {heading} button")
    up = [row[0] for row in page.run(ROWS, "Operators")]
    assert up == ["conv2d_1", "add", "linear", "sigmoid", "relu", "conv2d", "view"]
    page.click(f"#all {heading} button")
    assert [row[0] for row in page.run(ROWS, "Operators")] == up[::-1]
    assert (
        page.run(
            "return [...document.querySelectorAll('#all th')].map(e => e.getAttribute('aria-sort'))"
        ).count("descending")
        == 1
    )


def test_a_table_is_saved_as_csv(reports: ModuleType, show: Show, tmp_path: Path) -> None:
    report = reports.everything()
    odd = evolve(report.operators[0], reason='a "quoted", =2+3\nreason', lowered_as="=SUM(A1)")
    page = show(evolve(report, operators=(odd, *report.operators[1:])))
    command = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", command)
    page.click("[data-csv='operators.csv']")
    for _ in range(200):
        if (tmp_path / "operators.csv").exists():
            break
        time.sleep(0.05)
    with (tmp_path / "operators.csv").open(encoding="utf-8", newline="") as stream:
        heads, *rows = csv.reader(stream)
    assert heads[:3] == ["operator", "module", "ends"]
    assert {row[0] for row in rows} == {each.name for each in report.operators}
    found = next(row for row in rows if row[0] == odd.name)
    assert 'a "quoted", =2+3\nreason' in found
    assert "'=SUM(A1)" in found  # not a formula
    assert page.messages() == []


def test_rows_lead_to_nodes_and_nodes_to_rows(reports: ModuleType, show: Show) -> None:
    page = show(reports.everything())
    page.click("tr[data-row='sigmoid'] [data-node]")
    assert page.selected() == "sigmoid"
    page.click("#details [data-to-row]")
    assert page.run("return document.querySelector('tr.found').dataset.row") == "sigmoid"


def test_a_step_is_copied(reports: ModuleType, show: Show) -> None:
    report = reports.sensitive()
    page = show(report)
    codes = page.run("return [...document.querySelectorAll('.steps code')].map(e => e.textContent)")
    assert codes[1:] == [each.code for each in report.next_steps]
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", allowed)
    page.click(".steps li:nth-child(2) button")
    page.wait("document.querySelector('.steps li:nth-child(2) button').textContent !== 'Copy'")
    assert page.text(".steps li:nth-child(2) button") in ("Copied", "Selected")
    assert page.messages() == []


def test_on_a_phone_a_node_opens_a_sheet_at_the_lower_border(
    reports: ModuleType, show: Show
) -> None:
    page = show(reports.everything())
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        box = "document.querySelector('.details').getBoundingClientRect()"
        page.wait(f"{box}.top >= innerHeight")
        page.run("qreg.select('linear')")
        page.wait(f"Math.abs({box}.bottom - innerHeight) < 1")
        assert page.selected() == "linear"
        assert page.run("return document.documentElement.scrollWidth") == 390
        page.click("#clear")
        page.wait(f"{box}.top >= innerHeight")
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page.messages() == []


def test_the_report_of_a_real_model_is_shown(registry: Registry, show: Show) -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    ).eval()
    example = (torch.randn(2, 4),)
    report = explain(
        model, example, backend="toy", registry=registry, calibration=[example], numerics=True
    )
    page = show(report)
    for operator in report.operators:
        page.click_node(operator.name)
        assert page.selected() == operator.name
        assert operator.reason in page.text("#details")
    assert page.messages() == []


def test_the_same_report_gives_the_same_page(reports: ModuleType) -> None:
    assert render(reports.everything()) == render(reports.everything())


def test_a_page_is_made_without_torch() -> None:
    script = """
import sys
from qreg.report.page import render
from qreg.report.values import Operator, Sizes
from qreg.report.report import Report
operator = Operator("linear", "aten.linear.default", "head", "annotated", "it fits", inputs=("x",))
assert "aten.linear.default" in render(Report("toy", "Net", (operator,), Sizes(1, None)))
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
