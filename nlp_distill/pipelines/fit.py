"""A student for a budget: measure candidates untrained, distil the most promising, stop at the first that satisfies.

    measure   every candidate with random weights, which latency and size do not depend on, in the form that ships;
              the models take turns in one run
    keep      those that meet latency and size
    distil    slowest first, each by the task stage of TinyBERT or as a BiLSTM or CNN, all from one labelled transfer
              set
    stop      at the first that loses few enough points on validation, or after so many

Nothing but the choice depends on the budget: measurements, students and their scores are stages, and the next run with
another budget reuses them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from data_augment.errors import InputError
from nlp_distill.models import check_max_length, count_positions, load_classifier, load_pretrained
from nlp_distill.pipelines.fit_choice import (
    Measured,
    choose,
    explain_drops,
    explain_over_budget,
    is_within,
    measure_drop,
    order_by_promise,
    try_candidates,
)
from nlp_distill.pipelines.fit_config import (
    BiLSTMCandidate,
    Budget,
    Candidate,
    Conditions,
    FitTraining,
    TransformerCandidate,
    default_candidates,
    join_candidates,
    parse_candidate,
    plan_word_student,
)
from nlp_distill.pipelines.fit_measure import check_runtime
from nlp_distill.pipelines.fit_report import (
    Row,
    check_report_is_ours,
    describe_drop,
    mark_frontier,
    write_report,
)
from nlp_distill.pipelines.fit_stages import STUDENT, WITHOUT, FitStages
from nlp_distill.pipelines.general_student import check_same_tokenizer, hash_general
from nlp_distill.pipelines.scoring import describe_teacher
from nlp_distill.processes import is_main_process
from nlp_distill.results import collect_versions
from nlp_distill.stages import announce
from nlp_distill.students import Shape, read_shape
from nlp_distill.tasks import TaskData
from nlp_distill.teachers import match_labels, read_labels

MAX_LENGTH = 128  # tokens a row, where the teacher has positions for them


def fit(
    budget: Budget,
    conditions: Conditions,
    training: FitTraining,
    shapes: Sequence[str],
    generals: Sequence[str],
    data: TaskData,
    teacher_path: str,
    output_dir: str | Path,
    command: str = "",
    overwrite: bool = False,
    teacher_task: str | None = None,
) -> dict[str, Any]:
    """Find a student that meets the budget, and write ``fit.json`` and ``fit.md``.

    Args:
        budget: what it may cost.
        conditions: how cost is measured.
        training: how candidates are trained.
        shapes: candidates in words; none for the default ones.
        generals: folders of general students, each a candidate in its own shape.
        data: the task. Validation decides, test is reported.
        teacher_path: a model fine-tuned on the task: folder or hub name.
        output_dir: where everything goes; what is finished is reused, whatever the budget was.
        command: the command line, kept in the results.
        overwrite: make again what was made with other settings.
        teacher_task: which task of a multi-task teacher, where it has another name there.

    Returns:
        The content of ``fit.json``; ``chosen`` and ``path`` are ``None``, and ``refusal`` says why, where no candidate
        satisfies.

    Raises:
        InputError: for settings that do not fit the teacher or each other, before any work.
    """
    output = Path(output_dir)
    check_runtime(conditions.runtime)
    check_report_is_ours(output, overwrite)
    stages = open_stages(
        conditions,
        training,
        shapes,
        generals,
        data,
        teacher_path,
        output,
        command,
        overwrite,
        teacher_task or data.task.name,
    )
    stages.check()
    if data.task.metrics[0] == "accuracy":
        warn_of_few_rows(len(data.validation), budget)
    teacher, measured, tokens = stages.measure()
    order = [one for one in order_by_promise(measured) if is_within(one, budget)]
    refusal, chosen, scores = explain_over_budget(measured, budget), None, None
    if refusal is None:
        scores = stages.score_teacher()
        drops = distil_in_order(stages, order, scores, budget)
        chosen = choose(order, drops, budget.max_drop)
        refusal = None if chosen else explain_drops(order, drops, budget)
    rows = mark_frontier([_describe_teacher(teacher, scores), *list_rows(stages, measured, scores, budget)])
    results = {
        "task": data.task.name,
        "metric": data.task.metrics[0],
        "budget": asdict(budget),
        "conditions": {**asdict(conditions), "measured_tokens": tokens},
        "max_candidates": training.max_candidates,
        "chosen": chosen,
        "path": next((row.path for row in rows if row.name == chosen), None),
        "refusal": refusal,
        "rows": [asdict(row) for row in rows],
        "selected_on": data.selected_on,
        "data_source": data.source,
        "data": stages.prints,
        "versions": collect_versions(),
        "command": command,
    }
    if is_main_process():
        write_report(output, results)
    return results


def open_stages(
    conditions: Conditions,
    training: FitTraining,
    shapes: Sequence[str],
    generals: Sequence[str],
    data: TaskData,
    teacher_path: str,
    output: Path,
    command: str,
    overwrite: bool,
    teacher_task: str,
) -> FitStages:
    """Load the teacher and settle the candidates.

    Raises:
        InputError: for a teacher of another task, lengths that it does not read, or candidates that it cannot teach.
    """
    code = {"trust_remote_code": training.trust_remote_code}
    teacher = load_classifier(teacher_path, teacher_task, **code)
    tokenizer = load_pretrained(AutoTokenizer, teacher_path, **code)
    match_labels(data.task.labels, read_labels(teacher.config))
    max_length = training.max_length or min(count_positions(teacher) or MAX_LENGTH, MAX_LENGTH)
    check_max_length(teacher, max_length)
    if conditions.tokens > max_length:
        raise InputError(
            f"tokens is {conditions.tokens}, but texts are cut at {max_length}; give --tokens {max_length} or less, or "
            "a larger --max-length"
        )
    shape = read_teacher_shape(teacher)
    starts = [read_general(general, tokenizer, shape) for general in generals]
    listed: list[Candidate] = [parse_candidate(text, shape) for text in shapes]
    if not shapes:
        listed = default_candidates(shape, can_trim(training, teacher, tokenizer))
    return FitStages(
        candidates={candidate.name: candidate for candidate in join_candidates(listed, starts)},
        conditions=conditions,
        training=training,
        data=data,
        teacher=teacher,
        teacher_path=teacher_path,
        teacher_task=teacher_task,
        teacher_shape=shape,
        tokenizer=tokenizer,
        max_length=max_length,
        output=output,
        prints=data.fingerprints(),
        teacher_print=describe_teacher(teacher, tokenizer, max_length),
        starts={start.name: hash_general(str(start.general)) for start in starts},
        command=command,
        overwrite=overwrite,
    )


def read_teacher_shape(teacher: PreTrainedModel) -> Shape | None:
    """The teacher's shape; ``None`` of one that is no transformer, such as a BiLSTM."""
    return read_shape(teacher.config) if hasattr(teacher.config, "num_hidden_layers") else None


def read_general(general: str, tokenizer: Any, teacher: Shape | None) -> TransformerCandidate:
    """A general student as a candidate, named by its layers and width.

    Raises:
        InputError: for one that reads other tokens than the teacher, or is deeper.
    """
    if teacher is None:
        raise InputError(
            "a general student learns from a transformer, which the teacher is not; leave out --general"
        )
    check_same_tokenizer(general, tokenizer)
    shape = read_shape(load_pretrained(AutoConfig, general))
    if shape.layers > teacher.layers:
        raise InputError(
            f"the general student {general} has {shape.layers} layers and the teacher {teacher.layers}; give one that "
            "is no deeper than the teacher"
        )
    return TransformerCandidate(f"{shape.layers}x{shape.hidden}", shape, general)


def can_trim(training: FitTraining, teacher: PreTrainedModel, tokenizer: Any) -> bool:
    """Whether the teacher's word pieces can be cut to the vocabulary of a BiLSTM or CNN."""
    config = plan_word_student(BiLSTMCandidate("bilstm:1", 1), training, MAX_LENGTH)
    try:
        config.word_vectors.check(teacher, tokenizer)
    except InputError:
        return False
    return True


def warn_of_few_rows(rows: int, budget: Budget) -> None:
    """Say where a single validation row costs more than may be lost."""
    if 100 / rows > budget.max_drop > 0:
        announce(
            f"WARNING: of {rows} validation rows each is {100 / rows:.2g} points of accuracy, and at most "
            f"{budget.max_drop:g} may be lost: none may be answered worse. Give more rows, or a larger --max-drop"
        )


def distil_in_order(
    stages: FitStages, order: Sequence[Measured], teacher_scores: Mapping[str, float], budget: Budget
) -> dict[str, float]:
    """Distil candidates within the budget until one satisfies; the points that each loses on validation."""

    def compute_drop(name: str) -> float:
        stages.train(name)
        scores = stages.find_scores(name, STUDENT)
        assert scores is not None, f"{name} was trained and has no scores"
        drop = measure_drop(teacher_scores["validation"], scores["validation"])
        announce(f"{name}: {describe_drop(drop)} on validation; at most {budget.max_drop:g} may be lost")
        return drop

    finished = {one.name for one in order if stages.is_distilled(one.name)}
    return try_candidates(order, finished, compute_drop, budget.max_drop, stages.training.max_candidates)


def list_rows(
    stages: FitStages,
    measured: Sequence[Measured],
    teacher_scores: Mapping[str, float] | None,
    budget: Budget,
) -> list[Row]:
    """Every candidate, slowest first, and after each that was trained the same student without the teacher.

    Scores are those of this run and of earlier ones, of candidates over the budget too.
    """
    rows = []
    for one in order_by_promise(measured):
        within = is_within(one, budget)
        row = Row(**asdict(one), status="not tried" if within else "over budget")
        for arm in (STUDENT, WITHOUT):
            scores = stages.find_scores(one.name, arm) if teacher_scores else None
            if scores is None or teacher_scores is None:
                rows += [row] if arm == STUDENT else []
                continue
            drop = measure_drop(teacher_scores["validation"], scores["validation"])
            status = "satisfies" if drop <= budget.max_drop else "distilled"
            own: dict[str, Any] = {"status": status if within else row.status}
            if arm == WITHOUT:
                own = {"name": f"{one.name}, without the teacher", "status": "for comparison"}
            rows.append(replace(row, **own, **scores, drop=drop))
    return rows


def _describe_teacher(teacher: Measured, scores: Mapping[str, float] | None) -> Row:
    given: dict[str, Any] = {**asdict(teacher), **(scores or {})}
    return Row(**given, status="teacher")
