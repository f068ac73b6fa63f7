"""Model cards: what a saved student says about itself on a hub, or to whoever finds the folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_distill.results import render_model_table
from nlp_distill.stages import write_whole

CARD = "README.md"
OURS = "nlp-distill-"  # model types that transformers does not know by itself


def write_cards(results: Mapping[str, Any], students: Sequence[Mapping[str, Any]]) -> None:
    """A card into the folder of each distilled student.

    Args:
        results: the content of the run's ``results.json``.
        students: the entry of each student, with ``path``, ``score`` and ``metrics``, one a seed.
    """
    for seed, entry in zip(results["seeds"], students, strict=True):
        folder = Path(entry["path"])
        write_whole(folder / CARD, render_card(results, entry, seed, folder))


def render_card(results: Mapping[str, Any], entry: Mapping[str, Any], seed: int, folder: Path) -> str:
    """The card: front matter as the hub reads it, then what a person wants to know."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    task, metric, teacher = results["task"], results["metric"], results["models"]["teacher"]
    without = results["models"].get("student_without_teacher")
    name = folder.name
    said = (
        f"{entry['score']:.4f} {metric} on the test split of {task}; its teacher has {teacher['score']:.4f}"
    )
    if without:
        said += f", and the same model trained without a teacher {without['score']:.4f}"
    rows = {split: f"{results['data'][split]['rows']:,}" for split in ("train", "test")}
    made = f"{rows['train']} labelled rows, a transfer set of {results['transfer_set']['rows']:,} rows labelled by it"
    lines = [
        _render_front_matter(results, entry, name),
        f"# {name}",
        "",
        f"A student for {task}, distilled with nlp_distill. It reaches {said}.",
        "",
        "## How to use it",
        "",
        "```python",
        *(
            ["import nlp_distill.students  # registers the model"]
            if config["model_type"].startswith(OURS)
            else []
        ),
        "from transformers import pipeline",
        "",
        f'pipeline("text-classification", "{name}")({_example(results)})',
        "```",
        "",
        "## How it was made",
        "",
        f"- Command: `{results.get('command', '')}` (this is seed {seed}).",
        f"- Data: {results['data_source']}; the teacher's {made}; {rows['test']} test rows, whose SHA-256 is "
        f"`{results['data']['test']['sha256']}`.",
        f"- Versions: {', '.join(f'{package} {version}' for package, version in results['versions'].items())}.",
        "",
        render_model_table(results["models"], metric),
        "",
        "## Limitations",
        "",
        "It imitates its teacher, mistakes and biases included, and was measured on the rows above only. Texts unlike "
        "them may be answered worse than by the teacher. The licences of the teacher and of the data apply to it; this "
        "card cannot know them.",
    ]
    return "\n".join(lines) + "\n"


def _render_front_matter(results: Mapping[str, Any], entry: Mapping[str, Any], name: str) -> str:
    """YAML, written as JSON values, which YAML is a superset of."""
    measured = [
        {"type": metric, "value": value, "name": metric.replace("_", " ")}
        for metric, value in entry["metrics"].items()
    ]
    result = {
        "task": {"type": "text-classification"},
        "dataset": {"type": results["task"], "name": results["task"], "split": "test"},
        "metrics": measured,
    }
    fields = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "license": "other",
        "tags": ["knowledge-distillation", "nlp_distill"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---", ""])


def _example(results: Mapping[str, Any]) -> str:
    return '{"text": "a text", "text_pair": "another"}' if results.get("is_pair") else '"a text"'
