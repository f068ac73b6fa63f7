"""The README's tables are the files under scripts/results, and nothing else."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def render():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("render_results", ROOT / "scripts" / "render_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def several(render):
    """The module of the table of several tasks."""
    return sys.modules["table_of_several"]


def publish(folder: Path, method: str, task: str, seed: int, score: float, parameters: int, **more) -> None:
    path = folder / method / task / f"{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"method": method, "task": task, "seed": seed, "score": score, "metrics": {"accuracy": score}}
    entry |= {
        "parameters": parameters,
        "parameters_without_embeddings": parameters // 2,
        "bytes": 4 * parameters,
    }
    path.write_text(json.dumps(entry | more))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    publish(folder, "teacher", "sst2", 0, 0.9, 22_700_000)
    for seed, without, distilled in [(0, 0.80, 0.85), (1, 0.82, 0.87), (10, 0.84, 0.89)]:
        publish(folder, "bilstm_without_teacher", "sst2", seed, without, 1_000_000)
        publish(folder, "bilstm_distilled", "sst2", seed, distilled, 1_000_000)
    publish(folder, "teacher", "mrpc", 0, 0.85, 22_700_000, metrics={"accuracy": 0.85, "f1": 0.9})
    return folder


TABLES = """\
**mrpc**

| model | accuracy | of the teacher's | parameters | not embeddings | MB | seeds |
|---|---:|---:|---:|---:|---:|---:|
| teacher, fine-tuned | 85.0 | 100.0% | 22.70 M | 11.35 M | 90.8 | 0 |

**sst2**

| model | accuracy | of the teacher's | parameters | not embeddings | MB | seeds |
|---|---:|---:|---:|---:|---:|---:|
| teacher, fine-tuned | 90.0 | 100.0% | 22.70 M | 11.35 M | 90.8 | 0 |
| BiLSTM, without the teacher | 82.0 (80.0–84.0) | 91.1% | 1.00 M | 0.50 M | 4.0 | 0, 1, 10 |
| BiLSTM, distilled | 87.0 (85.0–89.0) | 96.7% | 1.00 M | 0.50 M | 4.0 | 0, 1, 10 |

Gap closed: (student − without) / (teacher − without) = 62%."""


def test_the_tables_are_worked_out_from_the_files(render, results: Path) -> None:
    assert render.render_tables(render.read_results(results)) == TABLES


def test_other_methods_follow_and_selection_on_the_reported_rows_is_marked(render, tmp_path: Path) -> None:
    publish(tmp_path, "teacher", "cola", 0, 0.5, 10_000_000, selected_on="dev")
    publish(tmp_path, "another", "cola", 0, 0.4, 10_000_000, selected_on="train")
    lines = render.render_tables(render.read_results(tmp_path)).splitlines()
    assert lines[4].startswith("| teacher, fine-tuned (selected on the reported rows) | 50.0 |")
    assert lines[5].startswith("| another | 40.0 | 80.0% |") and len(lines) == 6


def test_students_of_several_tasks_stand_in_one_table(render, tmp_path: Path) -> None:
    for task, teacher, without, student in (
        ("cola", 0.4, 0.1, 0.3),
        ("rte", 0.6, 0.5, 0.6),
        ("sst2_10k", 0.9, 0.8, 0.85),
    ):
        publish(tmp_path, "teacher", task, 0, teacher, 1000)
        publish(tmp_path, "tinybert_3x312_without_teacher", task, 0, without, 500)
        for seed in (0, 1):
            publish(tmp_path, "tinybert_3x312", task, seed, student + 0.01 * (2 * seed - 1), 500)
    publish(tmp_path, "tinybert_3x312_without_hidden", "rte", 0, 0.55, 500)
    tables = render.render_tables(render.read_results(tmp_path))
    assert (
        tables
        == """\
**TinyBERT, 3 layers of 312**

| model | cola (accuracy) | sst2_10k (accuracy) | rte (accuracy) | average | of the teachers' | without CoLA | seeds |
|---|---:|---:|---:|---:|---:|---:|---:|
| teacher, fine-tuned | 40.0 | 90.0 | 60.0 | **63.3** | 100.0% | 100.0% | 0 |
| student, from random weights on labels | 10.0 | 80.0 | 50.0 | **46.7** | 73.7% | 86.7% | 0 |
| + prediction stage: **distilled** | 30.0 | 85.0 | 60.0 | **58.3** | 92.1% | 96.7% | 0, 1 |
| distilled, without the hidden-state term |  |  | 55.0 |  |  |  | 0 |"""
    )


def test_on_the_full_sst2_small_berts_stand_beside_the_other_students(render, tmp_path: Path) -> None:
    publish(tmp_path, "teacher", "sst2", 0, 0.9, 1000)
    scores = {
        "bilstm": 0.8,
        "bilstm_without_teacher": 0.7,
        "": 0.88,
        "_without_teacher": 0.7,
        "_general_only": 0.8,
    }
    for method, score in scores.items():
        name = {"bilstm": "bilstm_distilled"}.get(method, method)
        name = name if name.startswith("bilstm") else f"tinybert_3x312{name}"
        publish(tmp_path, name, "sst2", 0, score, 500)
    publish(tmp_path, "teacher", "rte", 0, 0.6, 1000)
    publish(tmp_path, "tinybert_3x312", "rte", 0, 0.5, 500)
    tables = render.render_tables(render.read_results(tmp_path))
    lines = tables.splitlines()
    assert [line.split(" | ")[:2] for line in lines[4:10]] == [
        ["| teacher, fine-tuned", "90.0"],
        ["| BiLSTM, without the teacher", "70.0"],
        ["| BiLSTM, distilled", "80.0"],
        ["| BERT of 3 layers of 312, without the teacher", "70.0"],
        ["| BERT of 3 layers of 312, general student on labels", "80.0"],
        ["| BERT of 3 layers of 312, distilled", "88.0"],
    ]
    assert lines[11] == (
        "Gap closed: (student − without) / (teacher − without) = 50% (BiLSTM, distilled), 90% (BERT of 3 layers of "
        "312, distilled)."
    )
    assert "| model | rte (accuracy) | of the teachers' | seeds |" in lines  # alone, no average with sst2
    publish(tmp_path, "tinybert_2x128_without_teacher", "sst2", 0, 0.6, 500)
    publish(tmp_path, "tinybert_2x128_without_intermediate", "sst2", 0, 0.75, 500)
    publish(
        tmp_path, "tinybert_3x312_without_intermediate", "sst2", 0, 0.87, 500
    )  # an ablation: no row at a glance
    rows = render.render_glance(render.read_results(tmp_path)).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| BiLSTM",
        "| BERT of 2 layers of 128, without the intermediate stage",
        "| BERT of 3 layers of 312",
    ]
    assert rows[1].split(" | ")[2:7] == ["90.0", "60.0", "**75.0**", "83.3%", "50%"]


SIX = {"cola": 0.3, "sst2_10k": 0.9, "mrpc": 0.8, "stsb": 0.85, "rte": 0.6, "qnli": 0.75}


def test_methods_of_several_tasks_stand_in_one_table_averaged_over_six(render, tmp_path: Path) -> None:
    sample = "GLUE folder, qnli (train is a sample, 8 of 90 rows)"
    for task, score in SIX.items():
        more = {"data_source": sample} if task == "qnli" else {}
        publish(tmp_path, "teacher", task, 0, score, 1000, **more)
        for seed in (0, 1, 2):
            publish(tmp_path, "bam", task, seed, score + 0.02 * seed, 1000, **more)
            publish(tmp_path, "mt_dnn_kd", task, seed, score - 0.05, 1000, **more)
        publish(tmp_path, "mt_dnn_kd", task, 3, score - 0.05, 1000) if task == "rte" else None
        publish(tmp_path, "bam_single_single", task, 0, score + 0.01, 1000)
        publish(tmp_path, "mt_dnn_ensemble", task, 0, score, 1000)
        if task != "qnli":  # not all six: no row
            publish(tmp_path, "bam_without_annealing", task, 0, 0.99, 1000)
            publish(tmp_path, "multitask", task, 0, 0.99, 1000)
    publish(tmp_path, "bam", "wnli", 0, 0.5, 1000)
    publish(tmp_path, "bam", "mnli", 0, 0.4, 1000)
    assert (
        render.render_tables(render.read_results(tmp_path))
        == """\
**Several tasks at once**

| model | cola (accuracy) | sst2_10k (accuracy) | mrpc (accuracy) | stsb (accuracy) | rte (accuracy) | qnli, sample (accuracy) | average | wnli (accuracy) | mnli (accuracy) | seeds |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| teachers, one a task | 30.0 | 90.0 | 80.0 | 85.0 | 60.0 | 75.0 | **70.0** |  |  | 1 (0) |
| MT-DNN's ensemble, the teachers' mean | 30.0 | 90.0 | 80.0 | 85.0 | 60.0 | 75.0 | **70.0** |  |  | 1 (0) |
| MT-DNN, **distilled** from it | 25.0 | 85.0 | 75.0 | 80.0 | 55.0 | 70.0 | **65.0** |  |  | 3–4 a task |
| BAM, **distilled** from one teacher a task | 32.0 | 92.0 | 82.0 | 87.0 | 62.0 | 77.0 | **72.0** | 50.0 | 40.0 | 3 (0, 1, 2) |
| bam_single_single | 31.0 | 91.0 | 81.0 | 86.0 | 61.0 | 76.0 | **71.0** |  |  | 1 (0) |

The average is over cola, sst2_10k, mrpc, stsb, rte, qnli.
qnli: train is a sample, 8 of 90 rows."""  # noqa: E501  a table's row is one line
    )


def test_rows_of_several_tasks_come_in_the_order_of_the_methods(render, several, tmp_path: Path) -> None:
    names = [*several.MULTITASK, "bam_multi_multi", "bam_single_teacher"]
    for task, score in SIX.items():
        for name in reversed(names):
            publish(tmp_path, name, task, 0, score, 1000)
    rows = render.render_tables(render.read_results(tmp_path)).splitlines()[4:]
    assert [row.split(" |")[0].removeprefix("| ") for row in rows[: len(names)]] == [
        *several.MULTITASK.values(),
        "bam_multi_multi",
        "bam_single_teacher",
    ]
    assert names[:8] == [
        "teacher",
        "multitask",
        "mt_dnn_ensemble",
        "mt_dnn_kd",
        "bam_multi",
        "bam",
        "bam_without_annealing",
        "bam_without_layerwise_rates",
    ]


def test_the_rows_are_what_the_commands_publish(several) -> None:
    from nlp_distill.commands.bam import name_methods
    from nlp_distill.commands.mt_dnn import METHODS
    from nlp_distill.pipelines.bam import BAM, COMBINATIONS

    published = {*METHODS.values(), name_methods(BAM("multi"))["multi"]}
    for settings in ({}, {"annealing": False}, {"layerwise_decay": 1.0}):
        published.add(name_methods(BAM(**settings))["student"])
    assert published | {"teacher"} == set(several.MULTITASK)
    others = {name for combination in COMBINATIONS for name in name_methods(BAM(combination)).values()}
    assert all(several.is_multitask(name) for name in published | others)
    assert not several.is_multitask("teacher") and not several.is_multitask("bilstm_distilled")


def test_the_teachers_beside_bam_are_those_of_its_seeds(render, tmp_path: Path) -> None:
    for task in (*SIX, "wnli"):
        for seed, score in [(0, 0.2), (1, 0.4), (3, 0.8)]:
            publish(tmp_path, "teacher", task, seed, score, 1000)
    lines = {}
    for bam_seeds in [(), (3,), (1, 3)]:
        for task in SIX:
            for seed in bam_seeds:
                publish(tmp_path, "bam", task, seed, 0.5, 1000)
            publish(tmp_path, "multitask", task, 0, 0.5, 1000)
        table = render.render_tables(render.read_results(tmp_path)).splitlines()
        [line] = [line for line in table if line.startswith("| teachers, one a task")]
        lines[bam_seeds] = line.split(" | ")[-3:]
    assert lines[()][1:] == ["46.7", "3 (0, 1, 3) |"]  # nobody's: all of them
    assert lines[(3,)] == ["**80.0**", "80.0", "1 (3) |"]
    assert lines[(1, 3)] == ["**60.0**", "60.0", "2 (1, 3) |"]


def test_learning_curves_are_averages_of_the_six_by_epoch(render, tmp_path: Path) -> None:
    for task in SIX:
        rise = 0.2 if task == "cola" else 0.1
        for seed in (0, 1):
            curve = [[1.0, 0.1 * seed], [2.0, 0.1 * seed + rise]]
            publish(tmp_path, "bam", task, seed, 0.5, 1000, validation_by_epoch=curve)
        publish(tmp_path, "mt_dnn_kd", task, 0, 0.5, 1000)  # made before curves were kept
    lines = render.render_tables(render.read_results(tmp_path)).splitlines()
    assert [line for line in lines if "by epoch" in line] == [
        "On rows held out of train, by epoch: BAM, **distilled** from one teacher a task: 5.0, 16.7 (CoLA alone 5.0, "
        "25.0)."
    ]


def test_without_a_whole_row_there_is_no_table_of_several_tasks(render, tmp_path: Path) -> None:
    publish(tmp_path, "bam", "rte", 0, 0.6, 1000)
    publish(tmp_path, "bam", "mnli", 0, 0.6, 1000)
    assert render.render_tables(render.read_results(tmp_path)) == ""


def test_a_sample_of_the_official_rows_is_called_one(render, tmp_path: Path) -> None:
    source = "GLUE folder, qqp (train is a sample, 8 of 90 rows; test is a sample, 1 of 40 rows)"
    publish(tmp_path, "teacher", "qqp", 0, 0.5, 10_000_000, data_source=source)
    heading = render.render_tables(render.read_results(tmp_path)).splitlines()[0]
    assert heading == "**qqp** (train is a sample, 8 of 90 rows; test is a sample, 1 of 40 rows)"


def test_no_gap_is_given_where_there_is_none(render, tmp_path: Path) -> None:
    for method in ("teacher", "bilstm_without_teacher", "bilstm_distilled"):
        publish(tmp_path, method, "sst2", 0, 0.8, 1_000_000)
    assert "Gap closed" not in render.render_tables(render.read_results(tmp_path))


def test_the_block_between_the_markers_alone_is_replaced(render) -> None:
    begin, end = render.mark("fit")
    page = f"before\n{begin}\nold\n{end}\nafter\n"
    new = render.replace_block(page, "fit", "new")
    assert new == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert render.replace_block(new, "fit", "new") == new
    assert render.replace_block(page, "fit", "") == f"before\n{begin}\n{end}\nafter\n"
    with pytest.raises(SystemExit, match="no markers <!-- compress: begin"):
        render.replace_block(page, "compress", "new")


def test_check_says_which_pages_are_out_of_date_and_changes_nothing(
    render, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("results*", "*.py"))
    results.rename(tmp_path / "scripts" / "results")
    pages = {
        "README.md": ("glance", "compare", "fit", "compress"),
        "scripts/results/README.md": ("results", "longer"),
        "scripts/comparisons/README.md": ("comparisons",),
    }
    empty = {}
    for name, blocks in pages.items():
        marks = (f"{begin}\n{end}\n" for begin, end in map(render.mark, blocks))
        empty[name] = "# Title\n\n" + "\n".join(marks)
        (tmp_path / name).write_text(empty[name], encoding="utf-8")
    monkeypatch.setattr(render, "ROOT", tmp_path)

    monkeypatch.setattr("sys.argv", ["render_results.py", "--check"])
    assert render.main() == 1 and f"out of date: {', '.join(pages)};" in capsys.readouterr().out
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in pages} == empty

    monkeypatch.setattr("sys.argv", ["render_results.py"])
    assert render.main() == 0
    (begin, end), longer = render.mark("results"), "\n".join(render.mark("longer"))
    page = (tmp_path / "scripts" / "results" / "README.md").read_text(encoding="utf-8")
    assert page == f"# Title\n\n{begin}\n\n{TABLES}\n\n{end}\n\n{longer}\n"
    assert "| BiLSTM | sst2 (accuracy) | 90.0 | 82.0 | **87.0** |" in (tmp_path / "README.md").read_text()

    monkeypatch.setattr("sys.argv", ["render_results.py", "--check"])
    assert render.main() == 0 and "every page is up to date" in capsys.readouterr().out


def test_small_berts_that_trained_longer_stand_beside_the_teachers_of_the_others(
    render, tmp_path: Path
) -> None:
    short, longer = tmp_path / "results", tmp_path / "longer"
    assert render.render_longer(render.read_results(longer), render.read_results(short)) == ""
    for task, score in (("cola", 0.3), ("rte", 0.6)):
        publish(short, "teacher", task, 3, score, 1000)
        publish(short, "tinybert_3x312", task, 0, 0.1, 500)
        publish(longer, "tinybert_3x312", task, 3, score - 0.1, 500)
    table = render.render_longer(render.read_results(longer), render.read_results(short))
    assert table.splitlines()[4:] == [
        "| teacher, fine-tuned | 30.0 | 60.0 | **45.0** | 100.0% | 100.0% | 3 |",
        "| + prediction stage: **distilled** | 20.0 | 50.0 | **35.0** | 77.8% | 83.3% | 3 |",
    ]


def test_a_model_of_several_tasks_that_trained_longer_stands_there_too(render, tmp_path: Path) -> None:
    short, longer = tmp_path / "results", tmp_path / "longer"
    for task, score in SIX.items():
        publish(short, "teacher", task, 3, score, 1000)
        publish(short, "bam", task, 3, 0.1, 1000)
        publish(longer, "bam", task, 3, score + 0.01, 1000)
    table = render.render_longer(render.read_results(longer), render.read_results(short)).splitlines()
    assert table[0] == "**Several tasks at once**" and len(table) == 8
    assert "| **70.0** | 1 (3) |" in table[4] and "| **71.0** | 1 (3) |" in table[5]


def test_the_pages_hold_the_tables_of_the_published_files(render) -> None:
    for path, page in render.render_pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == page, "run scripts/render_results.py"


def test_at_a_glance_a_student_stands_beside_its_teacher_and_itself_without(render, tmp_path: Path) -> None:
    publish(tmp_path, "teacher", "sst2", 0, 0.9, 1000)
    for seed, without, distilled in [(0, 0.7, 0.8), (2, 0.8, 0.9)]:
        publish(tmp_path, "bilstm_without_teacher", "sst2", seed, without, 10)
        publish(tmp_path, "bilstm_distilled", "sst2", seed, distilled, 10)
        publish(tmp_path, "cnn_distilled", "sst2", seed, distilled, 10)  # nothing beside it: no row
    sample = "GLUE folder, qqp (train is a sample, 8 of 90 rows)"
    for method, score in [("teacher", 0.6), ("bilstm_without_teacher", 0.5), ("bilstm_distilled", 0.7)]:
        publish(tmp_path, method, "qqp", 0, score, 10, data_source=sample)
    for task, score in SIX.items():
        publish(tmp_path, "teacher", task, 1, score, 1000)
        publish(tmp_path, "bam_multi", task, 1, score - 0.04, 1000)
        publish(tmp_path, "bam", task, 1, score - 0.01, 1000)
        publish(tmp_path, "mt_dnn_kd", task, 1, score, 1000)  # without its ensemble: no row
    for task in ("cola", "rte"):
        publish(tmp_path, "tinybert_3x312", task, 1, SIX[task] - 0.05, 500)
        publish(tmp_path, "tinybert_3x312", task, 2, SIX[task] - 0.05, 500)
        publish(tmp_path, "tinybert_3x312_without_teacher", task, 1, SIX[task] - 0.1, 500)
    assert render.render_glance(render.read_results(tmp_path)).splitlines()[2:] == [
        "| BiLSTM | sst2 (accuracy) | 90.0 | 75.0 | **85.0** | 94.4% | 67% | 0, 2 |",
        "| BiLSTM | qqp, sample (accuracy) | 60.0 | 50.0 | **70.0** | 116.7% | all | 0 |",
        "| TinyBERT, 3 layers of 312 | average of cola, rte | 45.0 | 35.0 | **40.0** | 88.9% | 50% | 2 a task |",
        "| BAM: one model of the teacher's size | average of cola, sst2_10k, mrpc, stsb, rte, qnli | 70.0 | 66.0 | "
        "**69.0** | 98.6% | 75% | 1 |",
    ]


def test_every_published_file_is_complete_and_lies_where_it_says() -> None:
    wanted = {
        "method",
        "task",
        "seed",
        "score",
        "metrics",
        "config",
        "versions",
        "data",
        "wall_time_s",
        "command",
    }
    folders = (ROOT / "scripts" / name for name in ("results", "results_longer"))
    for path in (path for folder in folders for path in folder.rglob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        assert wanted <= set(entry), f"{path.name} lacks {sorted(wanted - set(entry))}"
        assert path.parts[-3:] == (entry["method"], entry["task"], f"{entry['seed']}.json")
        assert -1 <= entry["score"] <= 1 and entry["score"] == next(iter(entry["metrics"].values()))


def test_the_results_that_the_readme_speaks_of_are_published_with_what_reproduces_them() -> None:
    """Teacher, student without it and distilled student; three seeds of the students on SST-2."""
    folder = ROOT / "scripts" / "results"
    seeds = {"sst2": {"0", "1", "2"}, "mrpc": {"0"}, "qqp": {"0"}}
    for task, wanted in seeds.items():
        for method in ("teacher", "bilstm_without_teacher", "bilstm_distilled"):
            found = {
                path.stem: json.loads(path.read_text()) for path in (folder / method / task).glob("*.json")
            }
            assert "0" in found if method == "teacher" else set(found) == wanted
            for seed, entry in found.items():
                assert (entry["method"], entry["task"], str(entry["seed"])) == (method, task, seed)
                assert -1 <= entry["score"] <= 1 and entry["command"].startswith("nlp-distill ")
                assert entry["selected_on"] == "train" and entry["versions"]["torch"].startswith("2.13.0")
                assert all(len(part["sha256"]) == 64 for part in entry["data"].values())
                rates = entry["config"]["training"]["learning_rate"]  # several, where the best was chosen
                assert min(rates if isinstance(rates, list) else [rates]) > 0 and entry["wall_time_s"] > 0


def test_the_comparisons_are_whole() -> None:
    folder = ROOT / "scripts" / "comparisons"
    for path in folder.glob("*.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        assert (
            report["task"] == path.stem.removesuffix("_earlier")  # a run before the task's present one
            and report["command"]
            and report["versions"]
            and report["data"]["test"]
        )
        teacher = report["rows"][0]
        for row in report["rows"]:
            assert row["faster"] == pytest.approx(teacher["p50_ms"] / row["p50_ms"])
            better = [
                other
                for other in report["rows"]
                if other["score"] >= row["score"]
                and other["p50_ms"] <= row["p50_ms"]
                and (other["score"], -other["p50_ms"]) != (row["score"], -row["p50_ms"])
            ]
            assert row["frontier"] == (not better)


def test_taggers_stand_beside_the_same_without_the_teacher(render, tmp_path):
    spans = {"metrics": {"span_f1": 0.5, "token_accuracy": 0.9}}
    publish(tmp_path, "teacher", "names", 0, 0.5, 22_700_000, **spans)
    for seed, without, distilled in [(0, 0.3, 0.4), (1, 0.4, 0.45)]:
        publish(tmp_path, "tagger_3x384_without_teacher", "names", seed, without, 17_000_000, **spans)
        publish(tmp_path, "tagger_3x384", "names", seed, distilled, 17_000_000, **spans)
    publish(tmp_path, "tagger_2x128", "names", 0, 0.2, 4_000_000, **spans)
    lines = render.render_tables(render.read_results(tmp_path)).splitlines()
    assert lines[0] == "**names**" and lines[2].startswith("| model | span f1 | of the teacher's |")
    assert [line.split(" | ")[:2] for line in lines[4:8]] == [
        ["| teacher, fine-tuned", "50.0"],
        ["| tagger of 2 layers of 128, distilled", "20.0"],
        ["| tagger of 3 layers of 384, without the teacher", "35.0 (30.0–40.0)"],
        ["| tagger of 3 layers of 384, distilled", "42.5 (40.0–45.0)"],
    ]
    assert lines[-1] == "Gap closed: (student − without) / (teacher − without) = 50%."
    assert sum(line.startswith("Gap closed") for line in lines) == 1


def test_teachers_from_whom_no_student_of_the_table_learnt_are_left_out(render, several, tmp_path):
    for seed, score in [(0, 0.8), (1, 0.6)]:
        publish(tmp_path, "teacher", "mrpc", seed, score, 22_700_000)
    publish(tmp_path, "bilstm_distilled", "mrpc", 0, 0.7, 2_000_000)
    for seed in (0, 1):
        publish(tmp_path, "tinybert_3x312", "mrpc", seed, 0.7, 13_000_000)
    for task in several.AVERAGED:
        publish(tmp_path, "teacher", task, 0, 0.8, 22_700_000)
        publish(tmp_path, "multitask", task, 1, 0.7, 22_700_000)
    lines = render.render_tables(render.read_results(tmp_path)).splitlines()
    found = [
        line.split(" | ")[1:2] + line.split(" | ")[-1:] for line in lines if line.startswith("| teacher")
    ]
    one_task, several, all_tasks = found
    assert one_task == ["80.0", "0 |"]  # the BiLSTM has seed 0 alone
    assert several == ["70.0", "0, 1 |"]
    assert all_tasks == ["80.0", "1 (0) |"]  # only teacher 0 has all tasks


def test_teachers_are_known_by_the_folders_that_students_name(render, tmp_path):
    for seed, score in [(0, 0.9), (1, 0.8), (2, 0.1)]:
        publish(tmp_path, "teacher", "mrpc", seed, score, 9, command=f"nlp-distill finetune --output t{seed}")
    for seed in (0, 1, 2):
        command = f"nlp-distill distill bilstm --teacher t{min(seed, 1)} --seeds {seed}"
        publish(tmp_path, "bilstm_distilled", "mrpc", seed, 0.7, 3, command=command)
    [line] = [
        line
        for line in render.render_tables(render.read_results(tmp_path)).splitlines()
        if line.startswith("| teacher")
    ]
    assert "85.0 (80.0–90.0)" in line and line.endswith("| 0, 1 |")


def test_a_student_is_compared_with_its_own_teachers_and_its_own_seeds(render, tmp_path):
    for seed, score in [(0, 0.8), (1, 0.9)]:
        command = f"nlp-distill finetune --output t{seed}"
        publish(tmp_path, "teacher", "sst2_10k", seed, score, 9, command=command)
        publish(tmp_path, "bilstm_without_teacher", "sst2_10k", seed, score - 0.2, 3)
        command = f"nlp-distill distill spacy --teacher t{seed}"
        publish(tmp_path, "spacy_distilled", "sst2_10k", seed, 0.68, 3, command=command)
        publish(tmp_path, "spacy_without_teacher", "sst2_10k", 5, 0.51, 3)
    publish(
        tmp_path,
        "bilstm_distilled",
        "sst2_10k",
        1,
        0.81,
        3,
        command="nlp-distill distill bilstm --teacher t1",
    )
    tasks = render.read_results(tmp_path)
    assert render.render_glance(tasks).splitlines()[2:] == [
        "| BiLSTM | sst2_10k (accuracy) | 90.0 | 70.0 | **81.0** | 90.0% | 55% | 1 |",
        "| spaCy | sst2_10k (accuracy) | 85.0 | 51.0 | **68.0** | 80.0% | 50% | 0, 1 |",
    ]
    table = render.render_tables(tasks)
    assert "| BiLSTM, distilled | 81.0 | 90.0% of 90.0 |" in table
    assert "| BiLSTM, without the teacher | 65.0 (60.0–70.0) | 76.5% |" in table
    assert "= 55% (BiLSTM, distilled), 50% (spaCy, distilled)." in table


def test_the_readme_holds_the_search_for_a_student_as_its_command_printed_it(render):
    path = ROOT / "scripts" / "fits" / "tweets.json"
    results, readme = json.loads(path.read_text()), (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {row["name"]: row for row in results["rows"]}
    chosen, budget = rows[results["chosen"]], results["budget"]
    assert results["command"].startswith("nlp-distill fit ") and results["versions"]["torch"]
    assert chosen["p50_ms"] <= budget["latency_ms"] and chosen["drop"] <= budget["max_drop"]
    assert chosen["test"] > rows[f"{results['chosen']}, without the teacher"]["test"]
    assert render.render_fit(path) in readme


def test_the_readme_holds_the_compression_as_its_command_printed_it(render):
    path = ROOT / "scripts" / "compressions" / "tweets.json"
    results, readme = json.loads(path.read_text()), (ROOT / "README.md").read_text(encoding="utf-8")
    models = results["models"]
    assert results["command"].startswith("nlp-distill compress ") and results["versions"]["torch"]
    assert models["start"]["bytes"] > 7 * models["quantize"]["bytes"]
    for entry in models.values():
        assert 0.5 < entry["score"] < 1 and f"{entry['score']:.4f}" in readme
    assert render.render_compression(path) in readme
