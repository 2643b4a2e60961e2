"""The recipe of a program: what was asked for, and the values that the calibration gave."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Factory, asdict, evolve, field, frozen

from qreg.errors import RecipeError
from qreg.plugins.registry import DEFAULT
from qreg.recipes.document import dumped, parsed
from qreg.recipes.tensors import read_record, written_record
from qreg.recipes.values import Address, Named, Scope, check_record, fields_of, plain
from qreg.utils.files import write_all_atomically

if TYPE_CHECKING:
    from qreg.recipes.record import Record

TENSORS = ".safetensors"


@frozen
class Recipe:
    """How a program is made: the arguments of :func:`qreg.quantize`, and the values it found.

    ``config`` is the name of the global config, and None keeps in float what no scope covers.
    ``modules``, ``module_types``, ``operators`` and ``calls`` are the scopes, each with the name of
    a config or None; the key of a call is its module, operator and ordinal. ``configs`` are
    configs by value, as tables of plain values, by the names that scopes use. ``algorithms`` are
    names, or tables of a name and the parameters that do not have their default, or ``"auto"``.
    ``seed`` is that of torch's random numbers while algorithms run. ``io`` is which inputs and
    outputs of the program are quantized tensors. ``versions`` are those of the distributions that
    made the program. ``record`` has the quantization parameters and the changes of algorithms: with
    it, no calibration data is needed.
    """

    backend: str
    config: Scope = DEFAULT
    modules: Mapping[str, Scope] = Factory(dict)
    module_types: Mapping[str, Scope] = Factory(dict)
    operators: Mapping[str, Scope] = Factory(dict)
    calls: Mapping[Address, Scope] = Factory(dict)
    algorithms: str | tuple[Named, ...] = ()
    options: Mapping[str, str | int | float | bool] = Factory(dict)
    configs: Mapping[str, Mapping[str, Any]] = Factory(dict)
    seed: int = 0
    io: str | Mapping[str, str] = "float"
    allow_float: bool = False
    unknown_modules: str = "error"
    versions: Mapping[str, str] = Factory(dict)
    record: Record | None = field(default=None, repr=False, eq=False)

    def check(self) -> None:
        """Raise as :meth:`load` for values that the file of a recipe cannot have."""
        try:
            fields = plain(asdict(self, recurse=False))
        except (AttributeError, TypeError, ValueError) as cause:
            raise RecipeError(
                f"the recipe: a value has another type than its field: {cause} (expected those of "
                "qreg.Recipe). Correct it."
            ) from cause
        fields_of(fields, "the recipe")

    @property
    def intent(self) -> str:
        """The SHA-256 of what ``record`` depends on: all but options, io and versions."""
        known = evolve(self, options={}, io="float", versions={}, record=None)
        fields = asdict(known, recurse=False)
        return hashlib.sha256(dumped(plain(fields)).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe as it is saved."""
        text, tensors = self._written("recipe")
        return hashlib.sha256(text + tensors).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the recipe as TOML, and its values next to it with the suffix ``.safetensors``.

        Both files are written in full or not at all. Raises ``RecipeError`` for another suffix than
        ``.toml``, and ``InputError`` for a path that cannot be written.
        """
        target = Path(path)
        check_suffix(target)
        contents = self.files(target.stem)
        write_all_atomically({target.with_name(name): each for name, each in contents.items()})

    def files(self, stem: str) -> dict[str, bytes]:
        """Return the names and contents of the files of a recipe; that of the TOML is the last."""
        text, tensors = self._written(stem)
        beside = {f"{stem}{TENSORS}": tensors} if tensors else {}
        return {**beside, f"{stem}.toml": text}

    def _written(self, stem: str) -> tuple[bytes, bytes]:
        """Return the contents of both files; the second is empty without a record."""
        fields = plain(asdict(self, recurse=False))
        tensors = b"" if self.record is None else written_record(self.record)
        if tensors:
            fields["record"] = {
                "file": f"{stem}{TENSORS}",
                "sha256": hashlib.sha256(tensors).hexdigest(),
                "intent": self.intent,
            }
        return dumped(fields).encode(), tensors

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe, and its values if it has any. Nothing in the files is executed.

        Raises ``RecipeError`` for a file that is missing, damaged or not a recipe, for values that
        do not belong to the recipe, and for a recipe that was edited after its values were saved;
        ``UnknownNameError`` for an unknown key.
        """
        source = Path(path)
        data = parsed(source)
        table = data.pop("record", None)
        recipe = cls(**fields_of(data, source.name))
        if table is None:
            return recipe
        check_record(table, source.name)
        return evolve(recipe, record=_record(recipe, table, source))


def _record(recipe: Recipe, table: Mapping[str, str], source: Path) -> Record:
    if table["intent"] != recipe.intent:
        raise RecipeError(
            f"{source}: it was edited after its values were saved, so that they do not belong to "
            "it any more. Remove its table [record], and pass calibration data."
        )
    path = source.parent / Path(table["file"]).name
    if path.name != table["file"]:
        raise RecipeError(
            f"{source}: [record] file is {table['file']!r} (expected the name of a file next to it)"
        )
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise RecipeError(
            f"{source}: its values in {path.name!r} cannot be read: {cause}. Put both files into "
            "one folder, or remove the table [record] and pass calibration data."
        ) from cause
    if hashlib.sha256(data).hexdigest() != table["sha256"]:
        raise RecipeError(
            f"{path}: it is not the file that {source.name} was saved with (its SHA-256 differs). "
            "Copy both files again."
        )
    return read_record(data, path)


def check_suffix(path: Path) -> None:
    """Raise ``RecipeError`` for a name of a recipe to write that does not end with ``.toml``."""
    if path.suffix != ".toml":
        raise RecipeError(
            f"{path}: the suffix is {path.suffix!r} (expected '.toml', such as "
            f"{path.with_suffix('.toml').name})"
        )


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe, as :meth:`Recipe.load` does."""
    return Recipe.load(path)
