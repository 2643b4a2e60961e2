"""A real browser, which shows the pages of reports from files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen
from loading import module_of
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from qreg.report.report import Report

PATIENCE = 60  # seconds
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--window-size=1500,1100",
)


@pytest.fixture(scope="session")
def reports() -> ModuleType:
    """The module that makes reports for these tests."""
    return module_of(Path(__file__).with_name("reports.py"), "reports")


@pytest.fixture(scope="session")
def driver() -> Iterator[WebDriver]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.fail("the page is tested in Chromium: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


@frozen
class Page:
    """A page that is open in the browser, and what a person does to it."""

    driver: WebDriver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        WebDriverWait(self.driver, PATIENCE).until(lambda _: self.run(f"return {script}"))

    def text(self, selector: str) -> str:
        return str(self.driver.find_element("css selector", selector).text)

    def click(self, selector: str) -> None:
        element = self.driver.find_element("css selector", selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def click_node(self, name: str) -> None:
        """With the mouse, on the pixel where the graph's library says that the node is."""
        self.run("document.getElementById('graph').scrollIntoView({block: 'center'})")
        place = "const at = qreg.graph.getElementById('n:' + arguments[0]).renderedPosition();"
        size = "const box = document.getElementById('graph').getBoundingClientRect();"
        x, y = self.run(f"{place} {size} return [box.x + at.x, box.y + at.y]", name)
        mouse = ActionChains(self.driver)
        mouse.w3c_actions.pointer_action.move_to_location(round(x), round(y)).click()
        mouse.perform()

    def press(self, *keys: str) -> None:
        """Whatever has the focus gets the keys."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def dimmed(self) -> set[str]:
        return set(self.run("return qreg.graph.nodes('.dim').map(n => n.data('node').name)"))

    def selected(self) -> str:
        self.wait("!qreg.graph.animated()")
        return self.text("#details h3")

    def messages(self) -> list[str]:
        """What the browser has said in its console, warnings and violations of policies too."""
        return [f"{each['level']}: {each['message']}" for each in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What the browser asked for since it was last asked."""
        logged = [json.loads(each["message"]) for each in self.driver.get_log("performance")]
        found = [each["message"] for each in logged]
        return [
            each["params"]["request"]["url"]
            for each in found
            if each["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture
def show(driver: WebDriver, tmp_path: Path) -> Callable[[Report], Page]:
    """Saves a report as a page, opens it, and waits until its script is through."""

    def open_page(report: Report) -> Page:
        path = tmp_path / "report.html"
        report.save_html(path)
        page = Page(driver)
        driver.get("about:blank")
        page.messages(), page.requests()
        driver.get(path.as_uri())
        page.wait("document.documentElement.dataset.ready === 'true'")
        return page

    return open_page
