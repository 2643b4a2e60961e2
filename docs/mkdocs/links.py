"""Takes links to what is in the repository but not on the site out of the pages; their text stays.

On a page of the repository such a link leads to the file, on the site it would lead nowhere. That
the file is there is what ``tests/test_docs_site.py`` looks at.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\[([^\[\]]+)\]\((?!https?:)([^()#\s]+)(?:#[^()\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs calls this with the source of each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def without(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        return link[1] if target.startswith("../") else link[0]

    return LINK.sub(without, markdown)
