"""TinyBERT's task stage: Jiao et al. 2019, "TinyBERT: Distilling BERT for Natural Language Understanding", arXiv
1909.10351, section 3.2.

Two trainings, one after the other, on the same rows:

    intermediate:  attention scores, hidden states and embeddings of the fine-tuned teacher's layers (TinyBERTLayers)
    prediction:    soft cross-entropy with the teacher's logits (SoftTargets), or the squared error to its values where
                   the task is a regression (LogitRegression)

The student starts from a general student (:mod:`nlp_distill.pipelines.general`). Beside it stand the same student
fine-tuned on the labels alone from random weights, from the general student, and after the intermediate stage.

Deviations from the authors' code: regressions learn from the teacher, not from the gold values;
checkpoints of the prediction stage are selected on rows held out of train, never on the reported ones; the head is the
model's own, without their extra ReLU, so that plain ``from_pretrained`` gives the same logits; the last incomplete
batch is used.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from data_augment.errors import InputError
from nlp_distill.models import check_max_length, check_vocabulary, load_classifier, load_pretrained
from nlp_distill.pipelines.general_student import check_same_tokenizer
from nlp_distill.pipelines.runs import write_run
from nlp_distill.pipelines.scoring import compare_speed, score_teacher
from nlp_distill.pipelines.tinybert_config import TinyBERTDistillation, name_ablation, settings_for
from nlp_distill.pipelines.tinybert_stages import STATES, Stages, read_student_shape
from nlp_distill.pipelines.transfer import label_transfer_set, make_transfer_set
from nlp_distill.results import check_results_are_ours
from nlp_distill.tasks import TaskData
from nlp_distill.teachers import match_labels, read_labels


def distill_tinybert(
    config: TinyBERTDistillation,
    data: TaskData,
    teacher_path: str,
    output_dir: str | Path,
    described: Mapping[str, Any],
    overwrite: bool = False,
    teacher_task: str | None = None,
    rows_dir: Path | None = None,
) -> dict[str, Any]:
    """Make and label the transfer set, distil in two stages, train the baselines, and write the results.

    Args:
        config: the settings.
        data: the task. Validation selects, test is reported.
        teacher_path: a model fine-tuned on the task, or a multi-task model: folder or hub name.
        output_dir: where everything goes; finished stages are reused, an interrupted one continues.
        described: the settings and the command as plain values, kept in the results.
        overwrite: make again what was made with other settings.
        teacher_task: which task of a multi-task teacher, where it has another name there.
        rows_dir: where the teacher's scores, the transfer set and its labels go, for runs that share them; ``None``
            for ``output_dir``.

    Returns:
        The content of ``results.json``, and under ``runs`` the entry of every arm and seed.

    Raises:
        InputError: for a teacher of another task, a general student with another tokenizer, or shapes that do not fit.
    """
    output, task = Path(output_dir), data.task
    shared = output if rows_dir is None else rows_dir
    code = {"trust_remote_code": config.trust_remote_code}
    teacher = load_classifier(teacher_path, teacher_task or task.name, **code)
    tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    match_labels(task.labels, read_labels(teacher.config))  # refuse a teacher of another task before any work
    if not hasattr(teacher.config, "num_hidden_layers"):
        raise InputError(
            f"the teacher is a {type(teacher).__name__}, which has no transformer layers that a student could learn "
            "from; give one with a plain head (not a SAN head, no BiLSTM or CNN)"
        )
    max_length = config.max_length or settings_for(task).max_length
    check_max_length(teacher, max_length)
    check_vocabulary(teacher, tokenizer)
    if config.general:
        check_same_tokenizer(config.general, tokenizer)
    prints = data.fingerprints()
    stages = Stages(
        config,
        data,
        teacher,
        tokenizer,
        max_length,
        output,
        prints,
        overwrite,
        root=shared,
        source=shared,
        states=output / STATES,
        whole=config,
    )
    stages.check()
    check_results_are_ours(output, overwrite)

    teacher_scores = score_teacher(teacher, tokenizer, data, max_length, shared, prints, overwrite)
    transfer_set = make_transfer_set(config.plan_transfer_set(task), data, shared, prints, overwrite)
    labelling = label_transfer_set(teacher, tokenizer, data, max_length, shared, overwrite)
    runs = {arm: [stages.train_arm(arm, seed) for seed in config.seeds] for arm in config.list_arms()}
    for part in config.ablations:
        runs[name_ablation(part)] = stages.ablate(part, runs)
    for folder in stages.list_states():  # gigabytes that can be made again
        shutil.rmtree(folder, ignore_errors=True)

    student = output / f"student-seed{config.seeds[0]}"
    parts = {
        "shape": asdict(read_student_shape(config)),
        "transfer_set": transfer_set,
        "labelling": labelling,
        "speed": compare_speed(teacher, tokenizer, student, data, max_length),
        **described,
    }
    spent = {"transfer_set": transfer_set["seconds"], "labelling": labelling["seconds"]}
    entry = teacher_scores["entry"] | {"path": teacher_path}
    return write_run(output, data, entry, runs, config.seeds, parts, spent)
