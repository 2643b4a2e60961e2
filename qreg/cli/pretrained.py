"""The model of a command in a folder of transformers: a config, and weights in safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qreg.backends.packages import TRANSFORMERS, needed
from qreg.backends.patching import quiet
from qreg.cli.models import Model
from qreg.errors import InputError, near

# The names of the tasks are those of the pipelines of transformers.
TASKS = {
    "audio-classification": "AudioClassification",
    "depth-estimation": "DepthEstimation",
    "feature-extraction": "",
    "fill-mask": "MaskedLM",
    "image-classification": "ImageClassification",
    "image-segmentation": "SemanticSegmentation",
    "multiple-choice": "MultipleChoice",
    "object-detection": "ObjectDetection",
    "question-answering": "QuestionAnswering",
    "text-classification": "SequenceClassification",
    "text-generation": "CausalLM",
    "token-classification": "TokenClassification",
}
CONFIG, WEIGHTS, ADAPTER = "config.json", "*.safetensors", "adapter_config.json"
SAVE = "Save the model with model.save_pretrained(folder)."
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
SHOWN = 3  # tensors that a message names


def read_pretrained(folder: Path, task: str | None) -> Model:
    """Return the model in a folder, with the head for a task.

    Nothing is downloaded, no code in the folder is run, and nothing is unpickled.

    Raises ``InputError`` for a folder without a config or weights in safetensors, for a task that
    is not in :data:`TASKS`, and for weights that lack tensors of the model for the task.
    """
    _check_task(task)
    _check_folder(folder)
    transformers = needed("transformers", TRANSFORMERS, "--hf")
    transformers.utils.logging.disable_progress_bar()
    kind = getattr(transformers, f"AutoModel{'For' if TASKS[str(task)] else ''}{TASKS[str(task)]}")
    try:
        with quiet("transformers"):
            model, loaded = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as cause:  # files that are damaged, or of another task, fail in many ways
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise InputError(f"--hf {folder}: it cannot be read for --task {task}: {line}") from cause
    _check_complete(folder, task, loaded)
    return Model(model.eval())


def _check_task(task: str | None) -> None:
    if task is None:
        raise InputError(f"--hf: the task is missing (expected one of {', '.join(TASKS)}).")
    if task not in TASKS:
        guesses = near(task, TASKS)
        guess = f" Did you mean {' or '.join(map(repr, guesses))}?" if guesses else ""
        raise InputError(
            f"--task {task!r}: there is no such task (expected one of {', '.join(TASKS)}).{guess}"
        )


def _check_folder(folder: Path) -> None:
    name = f"--hf {folder}"
    if not folder.is_dir():
        raise InputError(f"{name}: it is not a folder (expected that of save_pretrained). {SAVE}")
    if (folder / ADAPTER).is_file():
        raise InputError(f"{name}: it has an adapter (expected a whole model). Merge it first.")
    if not (folder / CONFIG).is_file():
        raise InputError(f"{name}: it has no {CONFIG} (expected that of save_pretrained). {SAVE}")
    if any(folder.glob(WEIGHTS)):
        return
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise InputError(
            f"{name}: its weights, {pickled[0]}, are pickled, and reading them could run code "
            f"(expected safetensors). {SAVE}"
        )
    raise InputError(f"{name}: it has no weights (expected a file of safetensors). {SAVE}")


def _check_complete(folder: Path, task: str | None, loaded: dict[str, Any]) -> None:
    """Raise ``InputError`` for tensors that the weights lack, which have random values."""
    missing = sorted(loaded["missing_keys"])
    if missing:
        more = f", and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputError(
            f"--task {task}: the weights in {folder} lack {', '.join(missing[:SHOWN])}{more} "
            "(expected a model that was trained for the task). Correct --task, or train it first."
        )
