"""Pins the forms of data that commands take: arrays, images and code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from commands import batches, failed, run
from safetensors.torch import save_file
from torch import Tensor, nn

from qreg.cli.data import read_data
from qreg.cli.forms import DataOptions
from qreg.errors import InputError, InstallationError
from qreg.programs.npz import read_npz


def form(**given: Any) -> DataOptions:
    plain: Any = dict.fromkeys(DataOptions.__annotations__)
    return plain | {"batch_size": 1} | given  # type: ignore[no-any-return]


def read(text: object, **given: Any) -> list[Any]:
    return list(read_data(str(text), "--calibration", form(**given)))


def rows() -> Tensor:
    return torch.cat([each for (each,) in batches()])


def arrays(path: Path) -> Path:
    if path.suffix == ".npz":
        numpy.savez(path, x=rows().numpy())
    else:
        save_file({"x": rows()}, path)
    return path


@pytest.mark.parametrize("name", ["data.npz", "data.safetensors"])
def test_arrays_calibrate_as_the_batches_that_they_stack(
    name: str, model: Path, data: Path, tmp_path: Path
) -> None:
    found = []
    for path in (data, arrays(tmp_path / name)):
        options = ("--batch-size", 8) if path.suffix != ".pt" else ()
        given = ("--backend", "toy", "--calibration", path, "--json", *options)
        result = run("quantize", model, *given)
        assert result.exit_code == 0, result.output
        found.append(json.loads(result.stdout)["verification"]["to_float"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(dtype: str, order: Any, tmp_path: Path) -> None:
    values = numpy.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    numpy.savez(tmp_path / "one.npz", values, empty=values[:0], number=values[0, 0, 1])
    numpy.savez_compressed(tmp_path / "two.npz", values, empty=values[:0], number=values[0, 0, 1])
    for path in (tmp_path / "one.npz", tmp_path / "two.npz"):
        found = read_npz(path)
        assert found.keys() == {"arr_0", "empty", "number"}
        for name, wanted in numpy.load(path).items():
            assert found[name].dtype == torch.as_tensor(wanted).dtype
            numpy.testing.assert_array_equal(found[name].numpy(), wanted)


def test_unnamed_arrays_are_arguments_in_their_order(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "data.npz", numpy.zeros((3, 2)), numpy.ones((3, 5)))
    (first, *_) = found = read(tmp_path / "data.npz", batch_size=2)
    assert len(found) == 1  # the third sample fills no batch
    assert [tuple(each.shape) for each in first] == [(2, 2), (2, 5)]


class Unpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('it was run')",))


def test_objects_in_arrays_are_never_unpickled(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "bad.npz", numpy.array([Unpickled()], dtype=object))
    with pytest.raises(
        InputError, match=r"bad\.npz cannot be read as arrays alone: the dtype '\|O'"
    ):
        read(tmp_path / "bad.npz")


@pytest.mark.parametrize("name", ["bad.npz", "bad.safetensors"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(InputError, match=f"{name} cannot be read as"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["lost.npz", "lost.safetensors", "lost.pt", "lost.txt", "lost"])
def test_data_that_are_missing_are_named_whatever_options_are_given(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"{name}': there is no such file or folder \(expected"):
        read(tmp_path / name, image_size="4,4")


def test_arrays_of_different_lengths_are_rejected(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "data.npz", x=numpy.zeros((3, 2)), y=numpy.ones((2, 2)))
    with pytest.raises(InputError, match=r"different numbers of samples .*found 2, 3"):
        read(tmp_path / "data.npz")


IMAGES = {"image_size": "4,6", "mean": "0.5,0.4,0.3", "std": "0.2,0.3,0.4"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of one colour each, in a folder and a subfolder."""
    library = pytest.importorskip("PIL.Image")
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    colours = {"a.png": (255, 0, 51), "b.PNG": (0, 0, 0), "more/c.bmp": (9, 9, 9)}
    for name, colour in colours.items():
        library.new("RGB", (11, 7), colour).save(folder / name)
    (folder / "labels.csv").touch()
    return folder


def test_images_are_resized_and_normalized_as_named(images: Path) -> None:
    found = read(images, **IMAGES)
    assert len(found) == 3
    wanted = torch.tensor([(1.0 - 0.5) / 0.2, (0.0 - 0.4) / 0.3, (0.2 - 0.3) / 0.4])
    torch.testing.assert_close(found[0][0], wanted.reshape(1, 3, 1, 1).expand(1, 3, 4, 6))
    gray = read(images, image_size="4,6", mean="0", std="1", batch_size=3)
    assert [tuple(each.shape) for (each,) in gray] == [(3, 1, 4, 6)]


def test_images_calibrate_a_model(images: Path, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).eval()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 4, 6),)), path)
    given = ("--backend", "toy", "--calibration", images, "--image-size", "4,6")
    result = run("quantize", path, *given, "--mean", "0.5,0.5,0.5", "--std", "1,1,1")
    assert result.exit_code == 0, result.output
    assert "ran 3 inputs" in result.output


def test_an_image_that_cannot_be_read_is_named(images: Path) -> None:
    (images / "bad.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(
        InputError, match=r"bad\.png: it cannot be read as an image, .*\(expected .*Remove it"
    ):
        read(images, **IMAGES)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, r"\(expected --image-size, --mean, --std\)\. Pass --image-size and --mean and --std"),
        (IMAGES | {"mean": "0.5,0.4"}, "--mean '0.5,0.4': expected 1 or 3 numbers"),
        (IMAGES | {"std": "1"}, "--std '1': expected 3 numbers"),
        (IMAGES | {"std": "1,0,1"}, "--std '1,0,1': expected numbers above 0"),
        (IMAGES | {"image_size": "8,-8"}, "--image-size '8,-8': expected numbers above 0"),
        (IMAGES | {"image_size": "large"}, "--image-size 'large': expected 2 numbers"),
        (IMAGES | {"tokens": 8}, "--tokens: it has no effect on a folder of images"),
    ],
)
def test_the_options_of_images_are_checked(
    given: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        read(tmp_path, **given)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    with pytest.raises(InputError, match="has no images"):
        read(tmp_path, **IMAGES)


def test_a_package_that_is_missing_is_named_with_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InstallationError, match=r"a folder of images: .*PIL.* pip install 'pillow'"
    ):
        read(tmp_path, **IMAGES)


def test_a_tokenizer_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One line.\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"Pass --tokenizer and --tokens\."):
        read(tmp_path / "text.txt")


SOURCE = """
import torch

listed = [(torch.zeros(8, 4),)] * 3
once = iter(listed)

def made():
    for number in range(3):
        yield (torch.full((8, 4), float(number)),)

def broken():
    yield from listed
    raise OSError("the disk is gone")

def none():
    return ()

def number():
    return 3
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / f"data_{abs(hash(tmp_path))}.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["listed", "once", "made"])
def test_batches_of_code_are_read_as_often_as_needed(name: str, code: Path) -> None:
    found = read_data(f"{code}:{name}", "--calibration", form())
    assert [len(list(found)), len(list(found))] == [3, 3]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", r"it raised OSError: the disk is gone, at .*data_\d+\.py:13"),
        ("none", "it has no batch"),
        ("number", "it returned a int"),
    ],
)
def test_code_that_makes_no_batches_is_named(name: str, expected: str, code: Path) -> None:
    with pytest.raises(InputError, match=expected):
        read(f"{code}:{name}")


def test_the_rest_of_the_command_names_it_too(model: Path, code: Path, tmp_path: Path) -> None:
    message = failed("quantize", model, "--backend", "toy", "--calibration", f"{code}:broken")
    assert "OSError: the disk is gone, at" in message
    assert not list(tmp_path.glob("*.toy"))
