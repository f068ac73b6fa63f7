"""Write a student as one file that runs without Python's training stack, and show that it gives the same answers."""

import copy
import inspect
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from data_augment.errors import InputError
from nlp_distill import runtime
from nlp_distill.calibration import Text, calibrate, draw_texts, encode
from nlp_distill.models import count_positions, labels_tokens
from nlp_distill.onnx_ops import fused_attention, make_bilstm
from nlp_distill.onnx_passes import drop_idle_reshapes, drop_traces, pack_projections, read_one_token
from nlp_distill.onnx_smoothing import smooth_activations
from nlp_distill.students import WordStudent
from nlp_distill.teachers import check_single_label, read_labels

FORMATS = ("onnx", "exported-program")
QUANTISATIONS = ("none", "int8-dynamic", "int8-static")
OPSETS = range(18, 24)
# One more whenever the same model is written otherwise, so that finished exports are not taken for new ones.
EXPORTER = 6
OPSET = 20  # the first with GELU as one operator
PROGRAM = "model.pt2"


class LogitsOnly(nn.Module):
    """A model that takes tensors in a fixed order and returns its logits, as exporters want it."""

    def __init__(self, model: PreTrainedModel, names: Sequence[str]):
        super().__init__()
        self.model = model
        self.names = list(names)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, tensors, strict=True))).logits


def export_model(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    *,
    form: str = "onnx",
    quantize: str = "none",
    max_length: int = 128,
    is_pair: bool | None = None,
    calibration: Sequence[Text] = (),
    opset: int = OPSET,
) -> None:
    """Write ``model`` into ``folder`` with its tokenizer, and for ONNX with the runtime that answers with it.

    Args:
        model: any classifier: BERT-like of texts or tokens, the BiLSTM, the CNN, one task of a multi-task model.
        tokenizer: its fast tokenizer.
        folder: an existing folder.
        form: ``onnx``, or ``exported-program`` (``torch.export``, for programs in torch).
        quantize: ``none``; ``int8-dynamic`` (weights int8, activations as they come); ``int8-static`` (activations too,
            by ranges seen on ``calibration``).
        max_length: tokens a row; longer texts are cut.
        is_pair: whether the model compares two texts; ``None`` where that is not known.
        calibration: texts like those to come, ``CALIBRATION_ROWS`` at most, which show how wide activations get:
            required for ``int8-static``, better than random words for ``int8-dynamic``. Not those that its answers
            are compared on.
        opset: version of the ONNX operators.

    Raises:
        InputError: for an unknown form or quantisation, a model of several labels a text, a tokenizer that is not fast
            or cannot pad, packages that are missing, or quantisation without what it needs.
    """
    check_single_label(model, "model")
    check_choice("format", form, FORMATS)
    check_choice("quantize", quantize, QUANTISATIONS)
    if form != "onnx" and quantize != "none":
        raise InputError(f"--quantize {quantize} is for ONNX models; leave it out with --format {form}")
    if quantize == "int8-static" and not calibration:
        raise InputError(
            "int8-static needs texts like those to come, to see the range of activations; give them"
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{type(tokenizer).__name__} is no fast tokenizer, and tokenizer.json can hold no other"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"{type(tokenizer).__name__} has no padding token, which a batch of texts needs; set its pad_token and the "
            "config's pad_token_id, and save both"
        )
    names = list_inputs(model, tokenizer)
    wrapped = LogitsOnly(widen_weights(model).eval(), names)
    example = make_example(names, tokenizer)
    length = torch.export.Dim("seq", max=count_positions(model))
    shapes = {"tensors": tuple({0: torch.export.Dim("batch"), 1: length} for _ in names)}
    if form == "onnx":
        check_onnx(opset)
        path = folder / runtime.MODEL
        # int8 models need onnxruntime as it is, so its own operators may be in them; others hold ONNX's alone.
        with fused_attention(wrapped.model) if quantize != "none" else nullcontext():
            write_onnx(wrapped, example, names, shapes, path, opset, packs=quantize == "int8-dynamic")
        if quantize != "none":
            texts = calibration or draw_texts(tokenizer, is_pair, seed=1)
            rows = calibrate(texts, tokenizer, names, max_length)
            quantise(path, quantize, rows, of_words=isinstance(model, WordStudent))
        shutil.copy2(runtime.__file__, folder / "runtime.py")
    else:
        program = torch.export.export(wrapped, example, dynamic_shapes=shapes)
        torch.export.save(program, folder / PROGRAM)
    write_tokenizer(backend, folder)
    settings = {
        "labels": list(read_labels(model.config)),
        "labels_tokens": labels_tokens([type(model).__name__]),
        "max_length": max_length,
        "truncation_side": tokenizer.truncation_side,
        "is_pair": is_pair,
        "inputs": names,
        "pad_token_id": tokenizer.pad_token_id,
        "format": form,
        "quantize": quantize,
    }
    (folder / runtime.SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def widen_weights(model: PreTrainedModel) -> PreTrainedModel:
    """The model in float32: itself, or a copy where weights have half the precision, which few operators take."""
    if all(part.dtype == torch.float32 for part in model.parameters() if part.is_floating_point()):
        return model
    return copy.deepcopy(model).float()


def describe_exporter() -> dict[str, Any]:
    """What an exported file depends on beside the model and the settings."""
    try:
        found = metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        found = None  # torch.export needs none
    return {"exporter": EXPORTER, "onnxruntime": found}


def list_inputs(model: PreTrainedModel, tokenizer: Any) -> list[str]:
    """The tensors that the model reads: ids, mask, and token types where they make a difference."""
    accepted = inspect.signature(model.forward).parameters
    reads_types = "token_type_ids" in accepted and "token_type_ids" in tokenizer.model_input_names
    if isinstance(model, WordStudent):
        reads_types = model.config.pair
    return ["input_ids", "attention_mask", *(["token_type_ids"] if reads_types else [])]


def make_example(names: Sequence[str], tokenizer: Any) -> tuple[Tensor, ...]:
    """Two rows of different lengths, with tokens of a first and a second text: what the exporter traces."""
    ids = torch.full((2, 7), tokenizer.pad_token_id)
    ids[0] = torch.arange(7) + 5
    ids[1, :5] = torch.arange(5) + 5
    columns = {"input_ids": ids, "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    columns["attention_mask"][1, 5:] = 0
    columns["token_type_ids"] = torch.zeros(2, 7, dtype=torch.long)
    columns["token_type_ids"][:, 3:5] = 1
    return tuple(columns[name] for name in names)


def write_onnx(
    wrapped: nn.Module,
    example: tuple[Tensor, ...],
    names: Sequence[str],
    shapes: dict[str, Any],
    path: Path,
    opset: int,
    packs: bool,
) -> None:
    """Export with any batch size and any length; ``packs`` says whether projections are put together."""
    # It tells of operators that nobody asked about.
    with quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            wrapped,
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(names),
            output_names=["logits"],
            opset_version=opset,
            custom_translation_table={torch.ops.nlp_distill.bilstm.default: make_bilstm()},
            verbose=False,
        )
    assert program is not None
    drop_idle_reshapes(program.model)
    if packs:
        pack_projections(program.model)
    read_one_token(program.model)
    drop_traces(program.model)
    program.save(str(path), external_data=False)


def quantise(path: Path, kind: str, rows: Iterator[dict[str, np.ndarray]], *, of_words: bool) -> None:
    """Replace a model by its int8 form, in place.

    Args:
        path: of the model.
        kind: ``int8-dynamic`` or ``int8-static``.
        rows: inputs that the range of activations is seen on.
        of_words: whether it is a BiLSTM or a CNN. Their weights get 7 bits: of 8 the sum of two products does not fit
            into the 16 bits that x86 processors without VNNI have for it, and is cut; a BERT's hardly ever are so
            large. Their embeddings and LSTM stay dynamic in ``int8-static``, which has no form for an LSTM, and reads
            embeddings by turning the whole matrix back into floats for every answer. A BERT's activations are
            smoothed before ``int8-dynamic`` (``onnx_smoothing.py``).

    Raises:
        InputError: for a model of more than 2 GiB, which the exporter writes in two files.
    """
    if Path(f"{path}.data").exists():
        raise InputError(
            "the model is too large for int8: onnxruntime's quantiser reads files up to 2 GiB; leave out --quantize"
        )
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def get_next(self):
            return next(rows, None)

    settings: dict[str, Any] = {
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        "reduce_range": of_words,
    }
    prepared, partly, written = (path.with_suffix(f".{name}.onnx") for name in ("prepared", "partly", "int8"))
    if kind == "int8-dynamic" and not of_words:
        smooth_activations(path, rows)
    with quiet(""):  # the quantiser's advice, which it gives by the root logger, is for its own authors
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        if kind == "int8-dynamic":
            quantize_dynamic(str(prepared), str(written), **settings)
        elif of_words:
            quantize_dynamic(str(prepared), str(partly), op_types_to_quantize=["Gather", "LSTM"], **settings)
            others = ["MatMul", "Gemm", "Conv"]
            quantize_static(str(partly), str(written), Reader(), op_types_to_quantize=others, **settings)
        else:
            quantize_static(str(prepared), str(written), Reader(), **settings)
    prepared.unlink()
    partly.unlink(missing_ok=True)
    written.replace(path)


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Only errors of a logger, for a while; "" is the root's."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def write_tokenizer(backend: Any, folder: Path) -> None:
    """The tokenizer alone, without padding and truncation, which are the runtime's business."""
    definition = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    (folder / runtime.TOKENIZER).write_text(json.dumps(definition, ensure_ascii=False), encoding="utf-8")


def measure_parity(
    model: PreTrainedModel, tokenizer: Any, folder: Path, texts: Sequence[Text], max_length: int
) -> dict[str, Any]:
    """How near the exported model's answers are to the model's own.

    Returns:
        ``{"rows", "max_abs_difference", "argmax_agreement"}``: of logits, those of every token where tokens are
        labelled; the agreement is 1 for a regression.
    """
    form = json.loads((folder / runtime.SETTINGS).read_text())
    names = form["inputs"]
    expected, found = [], []
    if form["format"] == "onnx":
        classifier = runtime.Tagger(folder) if form["labels_tokens"] else runtime.Classifier(folder)
        found = [np.atleast_2d(classifier.compute_logits([text])[0]) for text in texts]  # type: ignore[list-item]
    else:
        program = torch.export.load(folder / PROGRAM).module()
    with torch.no_grad():
        for text in texts:
            encoded = encode(tokenizer, [text], names, max_length)
            expected.append(np.atleast_2d(model.eval()(**encoded).logits[0].numpy()))
            if form["format"] != "onnx":
                found.append(np.atleast_2d(program(*encoded.values())[0].numpy()))
    own, other = np.concatenate(expected), np.concatenate(found)
    same = 1.0 if own.shape[1] == 1 else float((own.argmax(1) == other.argmax(1)).mean())
    return {
        "rows": len(texts),
        "max_abs_difference": float(np.abs(own - other).max()),
        "argmax_agreement": same,
    }


def check_choice(name: str, given: str, allowed: Sequence[str]) -> None:
    """Refuse a value that is none of ``allowed``.

    Raises:
        InputError: naming them.
    """
    if given not in allowed:
        raise InputError(f"{name} is {given!r}; give one of {', '.join(allowed)}")


def check_onnx(opset: int) -> None:
    """Refuse where the packages are missing or the operators are too old for the exporter.

    Raises:
        InputError: saying what to install or to give.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError:
            raise InputError(
                f"exporting to ONNX needs {package}; run `pip install nlp_distill[onnx]`"
            ) from None
    if opset not in OPSETS:
        raise InputError(
            f"opset is {opset}; the exporter writes {OPSETS[0]} to {OPSETS[-1]}, and older runtimes need a new one"
        )
