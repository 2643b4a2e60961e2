"""Docstrings as Markdown: roles become links, examples code, and attrs classes get a signature."""

from __future__ import annotations

import re
from typing import Any

from griffe import (
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    Extension,
    Function,
    Object,
    Parameter,
    ParameterKind,
    Parameters,
)

ROLE = re.compile(r":\w+:`(~?)([\w.]+)`")
LITERAL = re.compile(r"^::\n\n|(?<=:):$", re.MULTILINE)  # what is indented behind it is code anyway
EXAMPLE = re.compile(r"^>>> .*(?:\n(?:>>>|\.\.\.) .*)*", re.MULTILINE)
ATTRS = ("attrs.frozen", "attrs.define")


class Docstrings(Extension):
    """Griffe calls this with what it has read from the sources; nothing is imported."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        text = LITERAL.sub("", obj.docstring.value)
        text = ROLE.sub(lambda role: _link(obj, role[2], short=bool(role[1])), text)
        obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)

    def on_class(self, *, cls: Class, **_: Any) -> None:
        if not any(str(each.callable_path) in ATTRS for each in cls.decorators):
            return
        own = (each for each in cls.members.values() if each.is_attribute)
        fields = [each for each in own if _is_field(each)]
        if not fields:  # the base has them
            return
        made = Function("__init__", parameters=Parameters(*map(_parameter, fields)), parent=cls)
        cls.set_member("__init__", made)
        for each in fields:  # the docstring of the class says what they are
            each.public = False
            cls.del_member(each.name)


def _link(obj: Object, name: str, *, short: bool) -> str:
    """A link where the reference has the name, and else the name alone."""
    target = name
    if "." not in name:
        target = obj.resolve(name)
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'


def _is_field(attribute: Any) -> bool:
    is_made = "property" in attribute.labels or "init=False" in str(attribute.value)
    return attribute.annotation is not None and not is_made


def _parameter(attribute: Any) -> Parameter:
    return Parameter(
        attribute.name,
        annotation=attribute.annotation,
        kind=ParameterKind.positional_or_keyword,
        default=_default(attribute.value),
    )


def _default(value: str | Expr | None) -> str | Expr | None:
    """What a field is if it is not given: ``field(...)`` and ``Factory(...)`` hold it inside."""
    if not isinstance(value, ExprCall) or str(value.function) not in ("field", "Factory"):
        return value
    if str(value.function) == "Factory":
        return f"{value.arguments[0]}()"
    given = {each.name: each.value for each in value.arguments if isinstance(each, ExprKeyword)}
    if "factory" in given:
        return f"{given['factory']}()"
    return _default(given.get("default"))
