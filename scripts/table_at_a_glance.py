"""The table of the README: a row a student, beside its teacher and the same student without one."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from result_rows import Results, count_a_task, describe_sample, mean_scores, pair_scores
from table_of_several import AVERAGED, keep_complete
from tables_by_student import FAMILIES, TASK_ORDER, find_family, keep_family
from tables_by_task import ALL_KINDS, list_baselines, name_method

HEADER = "| student | task | teacher | without it | **distilled** | of the teacher's | gap closed | seeds |"
# Of several tasks at once: the student, the same model on labels, and who taught it.
SEVERAL = {
    "bam": ("BAM: one model of the teacher's size", "bam_multi", "teacher"),
    "mt_dnn_kd": ("MT-DNN, from an ensemble: the same", "multitask", "mt_dnn_ensemble"),
}


@dataclass(frozen=True)
class Row:
    """A student on a task, or its average over some.

    Args:
        student: its name.
        task: the task, or what the average is over.
        teacher: the score of its teacher, of 1.
        without: of the same student without a teacher.
        distilled: its own.
        seeds: of the distilled student.
    """

    student: str
    task: str
    teacher: float
    without: float
    distilled: float
    seeds: str

    def render(self) -> str:
        """A line of the table."""
        gap = self.teacher - self.without
        share = (self.distilled - self.without) / gap if gap > 0 else 1.0
        # Of a gap of less than a point a share says nothing; above its teacher a student has closed it.
        closed = "—" if gap < 0.01 else "all" if share >= 1 else f"{share:.0%}"
        scores = (f"{100 * score:.1f}" for score in (self.teacher, self.without))
        kept = f"{self.distilled / self.teacher:.1%}"
        cells = [
            self.student,
            self.task,
            *scores,
            f"**{100 * self.distilled:.1f}**",
            kept,
            closed,
            self.seeds,
        ]
        return f"| {' | '.join(cells)} |"


def render_glance(tasks: Results) -> str:
    """One row a student and task, then the averages of those with several tasks; "" without any."""
    rows = [*_list_students(tasks), *_list_families(tasks), *_list_several(tasks)]
    lines = [HEADER, "|---|---|" + "---:|" * 6, *(row.render() for row in rows)]
    return "\n".join(lines) if rows else ""


def _list_students(tasks: Results) -> Iterator[Row]:
    """Students of one task."""
    for task, found in sorted(tasks.items(), key=lambda item: (not item[0].startswith("sst2"), item[0])):
        methods = {name: own for name, own in found.items() if task in ALL_KINDS or find_family(name) is None}
        for student, without in list_baselines(methods).items():
            if "teacher" in methods and without in methods:
                name = name_method(student).replace(", distilled", "")
                metric = next(iter(methods[student][0]["metrics"])).replace("_", " ")
                sample = ", sample" if describe_sample(methods) else ""
                yield Row(
                    name,
                    f"{task}{sample} ({metric})",
                    *pair_scores(methods, without, student),
                    _list_seeds(methods[student]),
                )


def _list_seeds(entries: list) -> str:
    return ", ".join(str(entry["seed"]) for entry in entries)


def _list_families(tasks: Results) -> Iterator[Row]:
    """Small BERTs, over the tasks that all three have."""
    for family, title in FAMILIES.items():
        own = keep_family(family, {task: found for task, found in tasks.items() if task in TASK_ORDER})
        names = ("teacher", f"{family}_without_teacher", family)
        columns = [task for task in TASK_ORDER if task in own and all(name in own[task] for name in names)]
        if len(columns) > 1:
            means = [fmean(score or 0.0 for score in mean_scores(name, columns, own)) for name in names]
            seeds = count_a_task(sorted(len(own[task][family]) for task in columns))
            yield Row(title, f"average of {', '.join(columns)}", *means, seeds)


def _list_several(tasks: Results) -> Iterator[Row]:
    """Models of several tasks, over those that are averaged."""
    complete = keep_complete(tasks)
    for student, (title, without, teacher) in SEVERAL.items():
        names = (teacher, without, student)
        if all(name in complete.get(task, {}) for name in names for task in AVERAGED):
            means = [
                fmean(score or 0.0 for score in mean_scores(name, [*AVERAGED], complete)) for name in names
            ]
            seeds = _list_seeds(complete[AVERAGED[0]][student])
            yield Row(title, f"average of {', '.join(AVERAGED)}", *means, seeds)
