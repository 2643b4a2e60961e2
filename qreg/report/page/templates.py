"""What pages are made with: templates that escape every value, and the files in this folder."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

PACKAGE = "qreg.report.page"


@cache
def environment(package: str = PACKAGE) -> Environment:
    """Return what fills the templates of a package and those here, with every value escaped.

    It keeps the compiled templates for the next page.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader(PACKAGE, "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(path: str) -> str:
    """Return the text of a file of the page: its style, a script or the library."""
    return files(PACKAGE).joinpath(path).read_text(encoding="utf-8")


STYLE = ("base.css", "tables.css", "charts.css")
SCRIPTS = ("dom", "tables", "copy")


def style(*more: str) -> str:
    """Return the style that all pages have, and that in further files."""
    return "\n".join(map(asset, (*STYLE, *more)))


def script(*more: str) -> str:
    """Return the script that all pages have, with further parts."""
    parts = (asset(f"script/{name}.js") for name in (*SCRIPTS, *more))
    return "\n".join(["(() => {", '"use strict";', *parts, "})();"])


def checksum(script: str) -> str:
    """Return the hash source of an inline script, for the page's Content-Security-Policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
