"""``nlp-distill export``: a student as one file that runs anywhere, with proof that it gives the same answers."""

import argparse
import hashlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.commands.inputs import choose_task
from nlp_distill.limits import check_whole
from nlp_distill.processes import is_main_process
from nlp_distill.results import say_ratio
from nlp_distill.stages import announce, make_folder, run_stage, write_json, write_whole

PARITY_ROWS = 1000
MODEL_CARD = "MODEL_CARD.md"
MAX_LENGTH = 128  # tokens a row, where the model has positions for them


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from transformers import AutoTokenizer

    from nlp_distill.calibration import split_sample
    from nlp_distill.export import check_onnx, describe_exporter, export_model, list_inputs, measure_parity
    from nlp_distill.hashes import describe_architecture, hash_tokenizer, hash_weights
    from nlp_distill.models import (
        check_max_length,
        check_vocabulary,
        count_positions,
        is_tagger,
        load_classifier,
        load_pretrained,
        load_tagger,
        reads_pairs,
    )
    from nlp_distill.students import WordStudent
    from nlp_distill.training import MIN_LENGTH

    if options.format == "onnx":
        check_onnx(options.opset)
    check_sample_options(options)
    code = {"trust_remote_code": options.trust_remote_code}
    task = choose_task([options.student], options.task, "--task", code)
    if is_tagger(options.student, **code):
        model, tokenizer = load_tagger(options.student, **code)
        if options.text_pair_column:
            raise InputError(
                f"{options.student} is a tagger, which reads one text; leave out --text-pair-column"
            )
    else:
        model = load_classifier(options.student, task, **code)
        tokenizer = load_pretrained(AutoTokenizer, options.student, **code)
    max_length = options.max_length
    if max_length is None:
        max_length = min(count_positions(model) or MAX_LENGTH, MAX_LENGTH)
    check_whole("max_length", max_length, at_least=MIN_LENGTH)
    check_max_length(model, max_length)
    check_vocabulary(model, tokenizer)
    texts, is_pair = read_samples(options, tokenizer, reads_pairs(options.student, task, **code))
    output = Path(options.output)
    if output.resolve() == Path(options.student).resolve():
        raise InputError(
            f"--output is {output}, the model's own folder; choose another, which the export fills"
        )
    make_folder(output.parent)
    settings = {
        "form": options.format,
        "quantize": options.quantize,
        "max_length": max_length,
        "opset": options.opset,
    }

    def build(folder: Path) -> dict[str, Any]:
        calibrates = options.sample_file and options.quantize != "none"
        calibration, compared = split_sample(texts) if calibrates else ([], texts)
        export_model(model, tokenizer, folder, is_pair=is_pair, calibration=calibration, **settings)
        parity = measure_parity(model, tokenizer, folder, compared[:PARITY_ROWS], max_length)
        size = sum(path.stat().st_size for path in folder.glob("model.*"))
        return {
            "parity": parity,
            "bytes": size,
            "parity_on": "sample" if options.sample_file else "random tokens",
        }

    inputs = {
        "student": hash_weights(model),
        "tokenizer": hash_tokenizer(tokenizer),
        **settings,
        "config": describe_architecture(model.config),
        "truncation_side": tokenizer.truncation_side,
        "pad_token_id": tokenizer.pad_token_id,
        "reads": list_inputs(model, tokenizer),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "is_pair": is_pair,
        **describe_exporter(),
    }
    if options.quantize == "int8-static" and not isinstance(model, WordStudent):
        announce(
            "WARNING: of a transformer onnxruntime makes an int8-static model that is slower than fp32; "
            "`nlp-distill benchmark` says how much, and int8-dynamic is faster than both"
        )
    result = run_stage(f"exporting {options.student}", output, inputs, build, options.overwrite)
    if is_main_process():
        write_json(output / "parity.json", result)
        write_card(result, output, Path(options.student), bool(is_pair))
        show(result, model, output, bool(is_pair))


def check_sample_options(options: argparse.Namespace) -> None:
    """Refuse options of a sample that is not given, and no sample where one is needed.

    Raises:
        InputError: saying what to add or leave out.
    """
    if options.sample_file is not None:
        return
    if options.quantize == "int8-static":
        raise InputError(
            "int8-static needs texts like those to come, to see the range of activations; add --sample-file and "
            "--text-column"
        )
    for name in ("text_column", "text_pair_column"):
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} is of --sample-file, which is not given; add it, or leave that out"
            )


def read_samples(
    options: argparse.Namespace, tokenizer: Any, is_pair: bool | None
) -> tuple[list[Any], bool | None]:
    """Texts that the exported model is compared on: rows of a file, or random words of the vocabulary.

    Args:
        options: of the command.
        tokenizer: has the vocabulary.
        is_pair: whether the model compares two texts; ``None`` where it does not say.

    Returns:
        Texts or pairs, as many as are compared and calibrated on, and whether they are pairs (``None`` where nobody
        said so).

    Raises:
        InputError: for a file without its columns or rows, or of single texts where the model compares two.
    """
    from data_augment.rows import read_rows
    from nlp_distill.calibration import CALIBRATION_ROWS, draw_texts

    if options.sample_file is None:
        return draw_texts(tokenizer, is_pair), is_pair
    if options.text_column is None:
        raise InputError(f"{options.sample_file} is given without a text column; name it with --text-column")
    if is_pair and not options.text_pair_column:
        raise InputError(
            f"{options.student} compares two texts; name the second one's column with --text-pair-column"
        )
    if is_pair is False and options.text_pair_column:
        raise InputError(f"{options.student} reads one text; leave out --text-pair-column")
    columns = [options.text_column, *([options.text_pair_column] if options.text_pair_column else [])]
    rows = []
    reader = read_rows(
        Path(options.sample_file),
        required_columns=columns,
        text_columns=columns,
        skip_bad_rows=options.skip_bad_rows,
    )
    for row in reader:
        texts = tuple(row[column] for column in columns)
        rows.append(texts if len(texts) == 2 else texts[0])
        if len(rows) == PARITY_ROWS + CALIBRATION_ROWS:
            break
    if not rows:
        raise InputError(f"{options.sample_file} has no rows to compare the exported model on")
    return rows, len(columns) == 2


def write_card(result: dict[str, Any], output: Path, student: Path, is_pair: bool) -> None:
    """A page for whoever finds the folder: what answers, how to ask it, how near it is to the model it was made of.

    The model's own card, which says what it learnt from and how well, comes along as ``MODEL_CARD.md``.
    """
    from nlp_distill.cards import CARD
    from nlp_distill.export import PROGRAM
    from nlp_distill.runtime import SETTINGS

    settings = json.loads((output / SETTINGS).read_text(encoding="utf-8"))
    parity, own = result["parity"], student / CARD
    kind = "Tagger" if settings["labels_tokens"] else "Classifier"
    text = '("a text", "another")' if is_pair else '"a text"'
    use = f"""```bash
pip install onnxruntime tokenizers numpy
python runtime.py . {'"a text" "another"' if is_pair else text}
```

```python
from runtime import {kind}

{kind}(".")([{text}])
```"""
    if settings["format"] != "onnx":
        use = (
            f"`torch.export.load({PROGRAM!r}).module()` takes {', '.join(settings['inputs'])}, in this order."
        )
    same = f", and {parity['argmax_agreement']:.1%} of the answers are the same" if settings["labels"] else ""
    parts = [
        f"# {output.resolve().name}",
        f"{settings['format']}, quantised: {settings['quantize']}; {result['bytes'] / 1e6:.1f} MB. It reads "
        f"{'pairs of texts' if is_pair else 'texts'} of up to {settings['max_length']} tokens (longer ones are cut). "
        f"Its labels: {', '.join(map(str, settings['labels'])) or 'none, it is a regression'}.",
        use,
        f"Beside the model that it was made of, on {parity['rows']} {result['parity_on']} rows: logits differ by at "
        f"most {parity['max_abs_difference']:.2g}{same}.",
    ]
    if own.is_file():
        shutil.copyfile(own, output / MODEL_CARD)
        parts.append(f"How that model was made, and what it scores: [{MODEL_CARD}]({MODEL_CARD}).")
    write_whole(output / CARD, "\n\n".join(parts) + "\n")


def show(result: dict[str, Any], model: Any, output: Path, is_pair: bool) -> None:
    """Say what was written and how near it is."""
    parity = result["parity"]
    before = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    ratio = before / max(result["bytes"], 1)
    size = "as large as" if 0.95 < ratio < 1.05 else say_ratio(ratio, "smaller than", "larger than")
    compared = f"{parity['rows']} {'pairs of texts' if is_pair else 'texts'} ({result['parity_on']})"
    is_regression = model.config.num_labels == 1
    same = "" if is_regression else f" and {parity['argmax_agreement']:.1%} of the answers are the same"
    print(
        f"saved {output}: {result['bytes'] / 1e6:.1f} MB, {size} in torch; on {compared} "
        f"logits differ by at most {parity['max_abs_difference']:.2g}{same}"
    )
    if (output / "runtime.py").exists():
        example = '"a text" "another"' if is_pair else '"a text"'
        print(
            f"try it: python {shlex.quote(str(output / 'runtime.py'))} {shlex.quote(str(output))} {example}"
        )
