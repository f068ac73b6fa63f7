"""The page of a compression: what each step costs and saves."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nlp_distill.evaluation import describe_size
from nlp_distill.processes import is_main_process
from nlp_distill.results import collect_versions, describe_selection, show_agreement
from nlp_distill.stages import write_json, write_whole
from nlp_distill.tasks import TaskData

NAME = "compress"  # .json and .md
CHUNK = 1 << 20


def describe_sizes(model: PreTrainedModel, folder: str | Path, weights: Path | None = None) -> dict[str, int]:
    """Sizes of a model: as in :func:`nlp_distill.evaluation.describe_size`, and those that zeros show in.

    Args:
        model: the model.
        folder: where its weights are saved.
        weights: another file that holds them, whose bytes count instead.

    Returns:
        Also ``not_zero``, the parameters that are not 0, and ``zipped_bytes``, the file packed by zlib (level 6); the
        second is absent where no file is at hand.
    """
    sizes = describe_size(model, folder)
    sizes["not_zero"] = sum(int(weight.count_nonzero()) for weight in model.parameters())
    files = [weights] if weights is not None else sorted(Path(folder).glob("*.safetensors"))
    if weights is not None:
        sizes["bytes"] = weights.stat().st_size
    if files:
        sizes["zipped_bytes"] = sum(map(count_zipped, files))
    return sizes


def count_zipped(path: Path) -> int:
    """Bytes of a file packed by zlib, level 6, read in pieces."""
    packer, size = zlib.compressobj(6), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def write_compression(
    folder: Path, data: TaskData, models: Mapping[str, Mapping[str, Any]], parts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``compress.json`` and ``compress.md``.

    Args:
        folder: the run's folder.
        data: the task.
        models: entries of the teacher, the start, and each step.
        parts: whatever else is kept.

    Returns:
        The content of ``compress.json``.
    """
    results = {
        "task": data.task.name,
        "metric": data.task.metrics[0],
        "models": dict(models),
        "selected_on": data.selected_on,
        "data_source": data.source,
        **parts,
        "versions": collect_versions(),
    }
    if is_main_process():
        write_json(folder / f"{NAME}.json", results)
        write_whole(folder / f"{NAME}.md", render_compression(results))
    return results


def render_compression(results: Mapping[str, Any]) -> str:
    """The Markdown page: a row for the teacher, the student as it came, and each step."""
    models, metric = results["models"], results["metric"]
    start = models["start"]
    with_zeros = "prune-magnitude" in models
    header = ["step", metric, "before distilling", "agrees with teacher", "parameters", "not embeddings"]
    header += ["not zero"] if with_zeros else []
    header += ["MB", *(["MB zipped"] if with_zeros else []), "drop vs. start", "smaller"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for name, entry in models.items():
        is_step = name not in ("teacher", "start")
        before, zipped = entry.get("before_distilling"), entry.get("zipped_bytes")
        cells = [
            f"{name}: {entry['detail']}" if is_step else name,
            f"{entry['score']:.4f}",
            "" if before is None else f"{before:.4f}",
            show_agreement(entry),
            f"{entry['parameters']:,}",
            f"{entry['parameters_without_embeddings']:,}",
            *([f"{entry['not_zero']:,}"] if with_zeros else []),
            f"{entry['bytes'] / 1e6:.2f}",
            *(["" if zipped is None else f"{zipped / 1e6:.2f}"] if with_zeros else []),
            f"{start['score'] - entry['score']:+.4f}" if is_step else "",
            f"{start['bytes'] / entry['bytes']:.1f}×" if name != "teacher" else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    title = f"# {results['task']}: {metric} on the test split\n\n{results['data_source']}"
    # Only what is distilled has epochs to choose from.
    chosen = any("training" in entry for entry in models.values())
    selected = f"; epochs were selected on {describe_selection(results['selected_on'])}" if chosen else ""
    title += f"{selected}.\n\n"
    note = "\n\nEach step starts from the model of the one before; the MB are those of the saved weights."
    if with_zeros:
        note += " Zeros are stored like other numbers: they save what the zipped column shows, or a sparse runtime."
    return title + "\n".join(lines) + note + "\n"
