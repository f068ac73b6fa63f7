"""What each ``nlp-distill`` command does: options become objects here, once."""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_augment.errors import InputError
from nlp_distill.limits import check_whole
from nlp_distill.processes import is_main_process
from nlp_distill.stages import announce, make_folder, run_stage
from nlp_distill.tasks import TaskData, load_task, packaged_teacher_path


def run_demo(options: argparse.Namespace) -> None:
    """``nlp-distill demo``: finetune, then distill bilstm."""
    from nlp_distill.pipelines.demo import plan_demo

    started = time.perf_counter()
    budget = plan_demo(options.full)
    rows = {"labelled_rows": budget.labelled_rows, "unlabelled_rows": budget.unlabelled_rows}
    data = load_data(options, **(rows if options.task == "tweets" else {}))
    output = Path(options.output)
    configure_bilstm(
        budget.distillation, options
    )  # refuses wrong settings before the teacher takes its minutes
    finetune_teacher(options, options.teacher, data, output / "teacher", budget.teacher_training, seed=0)
    results = distill_into_bilstm(options, budget.distillation, data, str(output / "teacher"), output)
    announce(f"done in {time.perf_counter() - started:.0f} s; report: {output / 'results.md'}")
    show_results(results)


def run_finetune(options: argparse.Namespace) -> None:
    """``nlp-distill finetune``."""
    data, output = load_data(options), Path(options.output)
    result = finetune_teacher(
        options, options.model, data, output, options.training, options.seed, options.max_length
    )
    if not is_main_process():
        return
    validated = result["validation_score"] is not None
    score = f": {data.task.metrics[0]} {result['validation_score']:.4f} on validation" if validated else ""
    print(f"saved {output}{score}")
    if options.results_dir:
        publish_teacher(options, data, output, result)


def run_label(options: argparse.Namespace) -> None:
    """``nlp-distill label``."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from nlp_distill.labelling import label_file
    from nlp_distill.models import check_max_length, load_pretrained
    from nlp_distill.training import MIN_LENGTH

    if Path(options.output).is_dir():
        raise InputError(f"output {options.output} is a folder; give the name of a .parquet file")
    check_whole("max_length", options.max_length, at_least=MIN_LENGTH)
    code = {"trust_remote_code": options.trust_remote_code}
    teachers = [
        (
            load_pretrained(AutoModelForSequenceClassification, name, **code),
            load_pretrained(AutoTokenizer, name, **code),
        )
        for name in options.teacher
    ]
    for model, _ in teachers:
        check_max_length(model, options.max_length)
    make_folder(Path(options.output).parent)
    columns = [column for column in (options.text_column, options.text_pair_column) if column]
    summary = label_file(
        options.input, options.output, teachers, columns, options.max_length, options.overwrite
    )
    print(f"{summary}; {options.output}")


def run_distill_bilstm(options: argparse.Namespace) -> None:
    """``nlp-distill distill bilstm``."""
    from nlp_distill.pipelines.bilstm_config import BiLSTMDistillation

    data = load_data(options)
    results = distill_into_bilstm(options, BiLSTMDistillation(), data, options.teacher, Path(options.output))
    show_results(results)


def run_evaluate(options: argparse.Namespace) -> None:
    """``nlp-distill evaluate``."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from nlp_distill.evaluation import describe_scores, describe_size, predict_logits
    from nlp_distill.models import check_max_length, load_pretrained
    from nlp_distill.results import render_model_table
    from nlp_distill.training import MIN_LENGTH

    check_whole("max_length", options.max_length, at_least=MIN_LENGTH)
    data = load_data(options)
    code = {"trust_remote_code": options.trust_remote_code}
    models: dict[str, Any] = {}
    reference = None
    for name in options.model:
        model = load_pretrained(AutoModelForSequenceClassification, name, **code)
        tokenizer = load_pretrained(AutoTokenizer, name, **code)
        check_max_length(model, options.max_length)
        logits = predict_logits(model, tokenizer, data.test, data.task, options.max_length)
        scores = describe_scores(data.task, logits, data.test["label"], reference)
        reference = logits if reference is None else reference
        models[name] = scores | describe_size(model, name)
    print(render_model_table(models, data.task.metrics[0]))


def finetune_teacher(
    options: argparse.Namespace,
    model: str,
    data: TaskData,
    output: Path,
    training: dict[str, Any],
    seed: int,
    max_length: int = 128,
) -> dict[str, Any]:
    """The fine-tuning stage."""
    from nlp_distill.pipelines.finetune import FinetuneConfig, finetune

    path = str(packaged_teacher_path()) if model == "packaged" else model
    config = FinetuneConfig(path, max_length, seed, training, options.trust_remote_code)
    # The model goes by the name that was asked for: where a package lies differs from machine to machine.
    inputs = {"config": dataclasses.asdict(config) | {"model": model}, "data": data.fingerprints()}
    title = f"fine-tuning {model} on {data.task.name}"
    return run_stage(
        title,
        output,
        inputs,
        lambda folder: finetune(config, data, folder),
        options.overwrite,
        every_process=True,
    )


def distill_into_bilstm(
    options: argparse.Namespace, config, data: TaskData, teacher: str, output: Path
) -> dict:
    """The student pipeline with the options over ``config``; publishes the students' results where asked to."""
    from nlp_distill.pipelines.bilstm import distill_bilstm
    from nlp_distill.results import drop_place, publish_result

    config = configure_bilstm(config, options)
    plain = dataclasses.asdict(config)
    source = plain["word_vectors"].get("source")
    plain["word_vectors"] |= {"kind": type(config.word_vectors).__name__}
    if source is not None:
        plain["word_vectors"]["source"] = drop_place(source)
    described = {"config": plain, "command": options.command_line}
    results = distill_bilstm(config, data, teacher, output, described, options.overwrite)
    methods = {"student_without_teacher": "bilstm_without_teacher", "student": "bilstm_distilled"}
    if options.results_dir and is_main_process():
        for arm, runs in results["runs"].items():
            for seed, run in zip(config.seeds, runs, strict=True):
                context = {
                    **described,
                    "data": results["data"],
                    "transfer_set": results["transfer_set"] if arm == "student" else None,
                    "selected_on": data.selected_on,
                    "tuning": run.get("tuning"),
                    "wall_time_s": run["training"]["seconds"],
                }
                publish_result(options.results_dir, methods[arm], data.task.name, seed, run["entry"], context)
    return results


def configure_bilstm(config, options: argparse.Namespace):
    """``config`` with the given options in place; options left out keep its values."""
    from nlp_distill.pipelines.word_vectors import GloveWords, RandomWordPieces, TeacherWordPieces

    kind = options.embeddings or ("glove" if options.glove_file else None)
    sizes = {"size": options.embedding_size, "vocabulary_size": options.vocabulary_size}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    if kind == "glove":
        if sizes:
            raise InputError(
                "--embedding-size and --vocabulary-size do not go with --embeddings glove, whose vectors have a size"
            )
        config = dataclasses.replace(config, word_vectors=GloveWords(options.glove_file))
    elif kind:
        vectors = RandomWordPieces if kind == "random" else TeacherWordPieces
        config = dataclasses.replace(config, word_vectors=vectors(**sizes))
    elif sizes:
        config = dataclasses.replace(config, word_vectors=dataclasses.replace(config.word_vectors, **sizes))
    names: tuple[str, ...] = (
        "hidden_size",
        "head_size",
        "embedding_channels",
        "dropout",
        "hard_weight",
        "max_length",
    )
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.optimizer:
        given["adadelta"] = options.optimizer == "adadelta"
    if options.seeds:
        given["seeds"] = tuple(options.seeds)
    if options.no_baseline:
        given["baseline"] = False
    if options.baseline_epochs is not None:
        given["baseline_training"] = {**config.baseline_training, "num_train_epochs": options.baseline_epochs}
    if options.baseline_learning_rates:
        given["baseline_learning_rates"] = tuple(options.baseline_learning_rates)
    names = (
        "n_iter",
        "p_mask",
        "p_pos",
        "p_ngram",
        "max_ngram",
        "unlabelled_n_iter",
        "pos_tagger",
        "num_workers",
    )
    transfer = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return dataclasses.replace(
        config,
        **given,
        transfer_set=dataclasses.replace(config.transfer_set, **transfer),
        training={**config.training, **options.training},
        trust_remote_code=options.trust_remote_code,
    )


def publish_teacher(
    options: argparse.Namespace, data: TaskData, folder: Path, result: dict[str, Any]
) -> None:
    """Score a fine-tuned model on the reported split and write its result file."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from nlp_distill.evaluation import describe_scores, describe_size, predict_logits
    from nlp_distill.models import load_pretrained
    from nlp_distill.results import drop_place, publish_result

    model = load_pretrained(AutoModelForSequenceClassification, folder)
    logits = predict_logits(
        model, load_pretrained(AutoTokenizer, folder), data.test, data.task, options.max_length
    )
    scores = describe_scores(data.task, logits, data.test["label"]) | describe_size(model, folder)
    context = {
        "validation_score": result["validation_score"],
        "config": {
            "model": drop_place(options.model),
            "max_length": options.max_length,
            "training": options.training,
        },
        "data": data.fingerprints(),
        "selected_on": data.selected_on,
        "wall_time_s": result["seconds"],
        "command": options.command_line,
    }
    path = publish_result(options.results_dir, "teacher", data.task.name, options.seed, scores, context)
    print(f"{data.task.metrics[0]} {scores['score']:.4f} on test; {path}")


def show_results(results: dict[str, Any]) -> None:
    """Print the page of a run."""
    from nlp_distill.results import render_results

    if is_main_process():
        print(f"\n{render_results(results)}")


def load_data(options: argparse.Namespace, **rows: Any) -> TaskData:
    """The task that the data options name."""
    if getattr(options, "results_dir", None):
        make_folder(Path(options.results_dir))  # now, rather than when the work is done
    own_files = options.train_file is not None
    if options.label_column and not own_files:
        raise InputError("--label-column describes files of your own; add --train-file")
    if options.select_on == "dev" and (own_files or options.task in (None, "tweets")):
        raise InputError(
            "--select-on dev is a habit with GLUE's splits; to select on rows of your own give --validation-file"
        )
    given: dict[str, Any] = {"label_column": options.label_column} if options.label_column else {}
    data = load_task(
        options.task,
        data_dir=options.data_dir,
        train_file=options.train_file,
        validation_file=options.validation_file,
        test_file=options.test_file,
        unlabelled_file=options.unlabelled_file,
        text_column=options.text_column,
        text_pair_column=options.text_pair_column,
        select_on=options.select_on,
        skip_bad_rows=options.skip_bad_rows,
        **given,
        **rows,
    )
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in data.splits().items())
    counts = "".join(f"; {reason.replace('_', ' ')}: {count:,}" for reason, count in data.counts.items())
    announce(f"{data.task.name} from {data.source}: {sizes} rows{counts}")
    return data


def quiet_libraries() -> None:
    """Keep the terminal for what this run does: no reports about heads that are new by intention."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def parse_training_arguments(tokens: Sequence[str]) -> dict[str, Any]:
    """Fields of ``TrainingArguments`` from the command line, only those given, with their types.

    Raises:
        InputError: for a name that is no field, or a value of the wrong type.
    """
    if not tokens:
        return {}
    from transformers import HfArgumentParser, TrainingArguments

    ours = {"output_dir", "resume_from_checkpoint"}  # a stage knows where it writes and where it stopped
    fields = {field.name for field in dataclasses.fields(TrainingArguments)} - ours
    names = []
    for token in tokens:
        option = token.partition("=")[0]
        if option.startswith("--"):
            names.append(option[2:].replace("-", "_"))
        if not names or names[-1] not in fields:
            raise InputError(
                f"unknown option {option}; --help lists ours, and any field of TrainingArguments can be given"
            )
    parser = HfArgumentParser(TrainingArguments, exit_on_error=False)  # type: ignore[arg-type]
    try:
        parsed, left = parser.parse_known_args(["--output_dir", "unused", *tokens])
        if left:
            raise argparse.ArgumentError(None, f"{left[0]} belongs to no option")
    except argparse.ArgumentError as error:
        raise InputError(f"the training options {' '.join(tokens)} do not fit: {error}") from error
    return {name: getattr(parsed, name) for name in names}
