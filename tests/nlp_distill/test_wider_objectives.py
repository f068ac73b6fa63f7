"""Hints, patient layers, flow, relations and similarities: hand values, loops from the papers, and other packages."""

import ast
import itertools
import math
import re

import pytest
import torch
from transformers import TrainingArguments
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput

from data_augment.errors import InputError
from nlp_distill import BiLSTMConfig, DistillationTrainer
from nlp_distill.batching import DistillationCollator
from nlp_distill.encoding import encode_rows
from nlp_distill.internals import run_model
from nlp_distill.layer_map import explicit, last
from nlp_distill.objectives import (
    DistilBERT,
    Flow,
    HardLabels,
    Hints,
    MiniLM,
    MiniLMv2,
    OverTokens,
    PatientKD,
    RelationalKD,
    SimilarityPreserving,
    SoftTargets,
    TinyBERTLayers,
)
from nlp_distill.objectives.flow import flow_matrix
from nlp_distill.objectives.patient import patient_loss
from nlp_distill.objectives.relational import angle_loss, distance_loss
from nlp_distill.objectives.similarity import similarity_loss

DEEP = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.fixture
def teacher(make_bert):
    return make_bert(seed=1, **DEEP).eval()


@pytest.fixture
def student(make_bert):
    """Half as deep as the teacher, and narrower."""
    return make_bert(seed=2)


@pytest.fixture
def batch(make_rows, tokenizer):
    rows = encode_rows(make_rows(6), tokenizer, ["text"], 32)
    return DistillationCollator(tokenizer)([rows[i] for i in range(6)])


def run(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return run_model(model, inputs, frozenset({"hidden_states"}))


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def huber(x, y):
    """Equation 7 of the paper on relations."""
    gap = abs(x - y)
    return 0.5 * gap**2 if gap <= 1 else gap - 0.5


# ---- hints -----------------------------------------------------------------------------------------------------------


def test_a_hint_is_half_the_mean_square_over_real_tokens(student, teacher, batch):
    objective = Hints(student.config, teacher.config, student_layer=1, teacher_layer=3, weight=0.5)
    own, other = run(student, batch), run(teacher, batch)
    rows = []
    for guided, hint, real in zip(
        own["hidden_states"][1], other["hidden_states"][3], batch["attention_mask"].bool(), strict=True
    ):
        difference = hint[real] - (guided[real] @ objective.regressor.weight.T + objective.regressor.bias)
        rows.append(difference.square().sum() / difference.numel() / 2)
    expected = 0.5 * sum(rows) / len(rows)
    torch.testing.assert_close(objective(own, other, batch, 0.0)["hint"], expected)


def test_the_middle_layers_are_the_default_and_equal_widths_need_no_regressor(student, teacher, make_bert):
    objective = Hints(student.config, teacher.config)
    assert (objective.student_layer, objective.teacher_layer) == (1, 2)
    assert not list(Hints(teacher.config, teacher.config).parameters())
    with pytest.raises(InputError, match="teacher_layer is 5; it must be a whole number from 0 to 4"):
        Hints(student.config, teacher.config, teacher_layer=5)


# ---- patient layers --------------------------------------------------------------------------------------------------


def test_patient_loss_by_hand():
    """Directions (1, 0) and (0, 1): distance sqrt 2, squared 2; the same direction at another length: 0."""
    student, teacher = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.5], [7.0, 7.0]])
    assert patient_loss(student, teacher).item() == pytest.approx(1.0)  # mean of 2 and 0


def test_patient_layers_are_those_of_the_paper(make_bert):
    """BERT6 from BERT12: PKD-Skip learns from 2, 4, 6, 8, 10, PKD-Last from 7 to 11."""
    sides = (make_bert(num_hidden_layers=6).config, make_bert(num_hidden_layers=12).config)
    assert [other for _, other in PatientKD(*sides).pairs] == [2, 4, 6, 8, 10]
    assert [other for _, other in PatientKD(*sides, layer_map=last).pairs] == [7, 8, 9, 10, 11]
    with pytest.raises(InputError, match="none is in the layer map"):
        PatientKD(make_bert(num_hidden_layers=1).config, sides[1])


def test_patient_kd_sums_over_layers_on_cls_states(make_bert, teacher, batch):
    student = make_bert(seed=2, num_hidden_layers=3, hidden_size=24, num_attention_heads=4)
    own, other = run(student, batch), run(teacher, batch)
    expected = 0.0
    for m, n in ((1, 1), (2, 3)):  # uniform: 4/3 and 8/3, rounded
        for s, t in zip(own["hidden_states"][m][:, 0], other["hidden_states"][n][:, 0], strict=True):
            expected += (s / s.norm() - t / t.norm()).square().sum() / len(batch["input_ids"])
    found = PatientKD(student.config, teacher.config, weight=3.0)(own, other, batch, 0.0)["patient"]
    torch.testing.assert_close(found, 3.0 * expected)


# ---- flow ------------------------------------------------------------------------------------------------------------


def test_a_flow_matrix_by_hand():
    first = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    second = torch.tensor([[[1.0], [10.0], [9.0]]])
    assert flow_matrix(first, second, torch.tensor([[1, 1, 0]])).tolist() == [
        [[15.5], [21.0]]
    ]  # (1+30)/2, (2+40)/2


def test_flow_goes_between_neighbours_of_the_layer_map(student, teacher, batch):
    objective = Flow(student.config, teacher.config, weight=2.0)
    own, other = run(student, batch), run(teacher, batch)

    def flow(first, second, real):
        return sum(torch.outer(a, b) for a, b in zip(first[real], second[real], strict=True)) / real.sum()

    projected = [project(own["hidden_states"][m]) for m, project in enumerate(objective.projections)]
    losses = []
    for m in (0, 1):
        for row, real in enumerate(batch["attention_mask"].bool()):
            ours = flow(projected[m][row], projected[m + 1][row], real)
            theirs = flow(other["hidden_states"][2 * m][row], other["hidden_states"][2 * m + 2][row], real)
            losses.append((ours - theirs).square().mean())
    torch.testing.assert_close(objective(own, other, batch, 0.0)["flow"], 2.0 * torch.stack(losses).mean())
    with pytest.raises(InputError, match="give two"):
        Flow(student.config, teacher.config, layer_map=explicit([(1, 2)]))


# ---- relations between rows ------------------------------------------------------------------------------------------


def test_distances_by_hand():
    """Distances 3, 4, 5 against 1, 1, 2: over their means 3/4, 1, 5/4 against 3/4, 3/4, 3/2."""
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = torch.tensor([[0.0], [1.0], [-1.0]])
    assert distance_loss(student, teacher).item() == pytest.approx((0 + 0.5 * 0.25**2 + 0.5 * 0.25**2) / 3)


def test_angles_by_hand():
    """A right-angled triangle of sides 3, 4, 5 against an equilateral one: cosines 0, 3/5, 4/5 against 1/2 each."""
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    expected = (0.5 * 0.5**2 + 0.5 * 0.1**2 + 0.5 * 0.3**2) / 3
    assert angle_loss(student, teacher).item() == pytest.approx(expected)


def test_relations_equal_loops_over_the_paper_s_equations():
    student, teacher = draw(5, 3).double(), 4 * draw(5, 7, seed=1).double()

    def distances(rows):
        found = {(i, j): (rows[i] - rows[j]).norm() for i, j in itertools.permutations(range(5), 2)}
        return {pair: value / (sum(found.values()) / len(found)) for pair, value in found.items()}

    def cosines(rows):
        found = {}
        for i, j, k in itertools.permutations(range(5), 3):
            a, b = rows[i] - rows[j], rows[k] - rows[j]
            found[i, j, k] = a @ b / (a.norm() * b.norm())
        return found

    for loss, relation in ((distance_loss, distances), (angle_loss, cosines)):
        own, other = relation(student), relation(teacher)
        values = [huber(own[key], other[key]) for key in own]
        torch.testing.assert_close(loss(student, teacher), sum(values) / len(values))


def test_relations_do_not_see_scale_place_or_rotation():
    rows = draw(6, 4)
    turned = 3.0 * rows @ torch.linalg.qr(draw(4, 4, seed=1))[0] + 5.0
    assert distance_loss(turned, rows).item() == pytest.approx(0, abs=1e-9)
    assert angle_loss(turned, rows).item() == pytest.approx(0, abs=1e-9)
    assert distance_loss(draw(6, 4, seed=2), rows).item() > 1e-3


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows_for_a_relation_and_equal_rows_have_a_gradient(rows):
    student = torch.ones(rows, 3, requires_grad=True)
    loss = distance_loss(student, draw(rows, 3)) + angle_loss(student, draw(rows, 3))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_similarity_equals_a_loop():
    student, teacher = draw(4, 3), draw(4, 6, seed=1)

    def gram(rows):
        values = [[float(a @ b) for b in rows] for a in rows]
        return [[value / math.sqrt(sum(v * v for v in line)) for value in line] for line in values]

    expected = sum(
        (a - b) ** 2
        for x, y in zip(gram(student), gram(teacher), strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert similarity_loss(student, teacher).item() == pytest.approx(expected / 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_relations_of_half_precision_states_are_finite(dtype):
    """Squares of float16 numbers above 256 are infinite, and equal rows have no distance."""
    student = (draw(6, 4) * 300).to(dtype).requires_grad_()
    teacher = (draw(6, 4, seed=1) * 300).to(dtype)
    with torch.no_grad():
        student[1] = student[0]
    loss = distance_loss(student, teacher) + angle_loss(student, teacher)
    expected = distance_loss(student.detach().double(), teacher.double()) + angle_loss(
        student.detach().double(), teacher.double()
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", [RelationalKD, SimilarityPreserving])
def test_rows_are_means_of_real_tokens_or_logits(kind, student, teacher, batch):
    own, other = run(student, batch), run(teacher, batch)
    means = []
    for outputs, layer in ((own, 1), (other, 3)):
        states = outputs["hidden_states"][layer]
        means.append(
            torch.stack([s[m].mean(0) for s, m in zip(states, batch["attention_mask"].bool(), strict=True)])
        )
    losses = {RelationalKD: (distance_loss, angle_loss), SimilarityPreserving: (similarity_loss,)}[kind]
    weights = [1.0, 2.0]  # of distances and angles
    found = kind(layers=(1, 3))(own, other, batch, 0.0)
    for term, loss, weight in zip(found.values(), losses, weights, strict=False):
        torch.testing.assert_close(term, weight * loss(*means))
    several = ModelOutput(logits=torch.stack([other["logits"], 3 * other["logits"]], dim=1))  # two teachers
    assert kind(layers=None).needs == frozenset()
    for term, loss, weight in zip(
        kind(layers=None)(own, several, batch, 0.0).values(), losses, weights, strict=False
    ):
        torch.testing.assert_close(term, weight * loss(own["logits"], 2 * other["logits"]))


def test_relations_without_a_weight_are_refused():
    with pytest.raises(InputError, match="distance and angle weigh 0, so nothing is learnt"):
        RelationalKD(distance=0, angle=0)


@pytest.mark.parametrize("kind", [RelationalKD, SimilarityPreserving])
@pytest.mark.parametrize(
    ("layers", "what"),
    [((3, 1), "layer 3 of the student, which has 2"), ((1, -6), "layer -6 of the teacher")],
)
def test_relations_of_a_layer_that_is_not_there_say_which_there_are(
    kind, layers, what, student, teacher, batch
):
    with pytest.raises(ValueError, match=what):
        kind(layers=layers)(run(student, batch), run(teacher, batch), batch, 0.0)


# ---- DistilBERT's triple loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("only_masked", [False, True])
def test_distilbert_s_terms_equal_loops_over_their_tokens(only_masked, teacher):
    """Soft targets over real tokens (or masked ones), the masked language model over masked ones."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    labels = torch.tensor([[-100, 4, -100, 2], [-100, 0, -100, -100]])
    own = ModelOutput(logits=draw(2, 4, 5), hidden_states=(draw(2, 4, 3, seed=2),))
    other = ModelOutput(logits=draw(2, 4, 5, seed=1), hidden_states=(draw(2, 4, 3, seed=3),))
    objective = DistilBERT(teacher.config, teacher.config, only_masked=only_masked)
    found = objective(own, other, {"labels": labels, "attention_mask": mask}, 0.0)

    soft, masked_lm = [], []
    for row, place in itertools.product(range(2), range(4)):
        mine, theirs = own["logits"][row, place], other["logits"][row, place]
        if labels[row, place] >= 0 if only_masked else mask[row, place]:
            p, q = (theirs / 2).softmax(-1), (mine / 2).softmax(-1)
            soft.append(4 * sum(p[i] * (p[i] / q[i]).log() for i in range(5)))
        if labels[row, place] >= 0:
            masked_lm.append(-mine.softmax(-1)[labels[row, place]].log())
    assert len(soft) == (3 if only_masked else 6) and len(masked_lm) == 3
    torch.testing.assert_close(found["soft_targets"], 5.0 * sum(soft) / len(soft))
    torch.testing.assert_close(found["masked_lm"], 2.0 * sum(masked_lm) / 3)
    cosines = torch.cosine_similarity(own["hidden_states"][0], other["hidden_states"][0], dim=-1)
    torch.testing.assert_close(found["cosine"], 1 - (cosines[0].mean() + cosines[1, :2].mean()) / 2)


def test_distilbert_without_masked_tokens_or_weights(teacher):
    objective = DistilBERT(teacher.config, teacher.config, cosine=0, only_masked=True)
    logits = draw(1, 2, 5).requires_grad_()
    batch = {"labels": torch.full((1, 2), -100), "attention_mask": torch.ones(1, 2)}
    terms = objective(ModelOutput(logits=logits), ModelOutput(logits=draw(1, 2, 5)), batch, 0.0)
    sum(terms.values()).backward()
    assert set(terms) == {"soft_targets", "masked_lm"} and logits.grad.abs().sum() == 0
    with pytest.raises(InputError, match="soft, masked_lm and cosine weigh 0, so nothing is learnt"):
        DistilBERT(teacher.config, teacher.config, soft=0, masked_lm=0, cosine=0)


# ---- all of them -----------------------------------------------------------------------------------------------------

KINDS = {
    "hints": lambda student, teacher: Hints(student, teacher),
    "patient": lambda student, teacher: PatientKD(student, teacher),
    "flow": lambda student, teacher: Flow(student, teacher),
    "relational": lambda student, teacher: RelationalKD(),
    "similarity": lambda student, teacher: SimilarityPreserving(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_of_a_kind_add_under_the_names_that_the_message_advises(kind, student, teacher, batch):
    first, second = (KINDS[kind](student.config, teacher.config) for _ in range(2))
    sides = run(student, batch), run(teacher, batch), batch, 0.0
    with pytest.raises(ValueError, match="two objectives return a term named") as caught:
        (first + second)(*sides)
    advice = re.search(r"for example (\w+)\(\.\.\., (names?)=(.+)\)$", str(caught.value))
    configs = () if kind in ("relational", "similarity") else (student.config, teacher.config)
    renamed = type(first)(*configs, **{advice[2]: ast.literal_eval(advice[3])})
    renamed.load_state_dict(first.state_dict())
    terms = (first + renamed)(*sides)
    for name, value in first(*sides).items():
        torch.testing.assert_close(terms[f"{name}_2"], value)
        torch.testing.assert_close(terms[name], value)


def test_terms_that_cannot_be_renamed_say_so(teacher, batch):
    layers = TinyBERTLayers(teacher.config, teacher.config, hidden=0, embedding=0)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    parts = layers.needs | MiniLM.needs
    both = run_model(teacher, inputs, parts)
    with pytest.raises(ValueError, match="'attention'; these objectives have the term under this name only"):
        (layers + MiniLM(teacher.config, teacher.config))(both, both, batch, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind, student, teacher, batch):
    torch.manual_seed(0)
    objective = KINDS[kind](student.config, teacher.config)
    longer = dict(batch)
    for name in ("input_ids", "attention_mask"):
        longer[name] = torch.nn.functional.pad(batch[name], (0, 5))
    student.eval()
    for weight in student.parameters(), objective.parameters():
        assert all(torch.isfinite(parameter).all() for parameter in weight)
    short, padded = (
        sum(objective(run(student, b), run(teacher, b), b, 0.0).values()) for b in (batch, longer)
    )
    torch.testing.assert_close(short, padded, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_beside_soft_targets_and_labels_and_the_saved_student_is_plain(
    kind, student, teacher, make_rows, tokenizer, tmp_path
):
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective = KINDS[kind](student.config, teacher.config) + SoftTargets(weight=0.5) + HardLabels(0.5)
    trainer = DistillationTrainer(
        model=student,
        teacher=teacher,
        objective=objective,
        train_dataset=encode_rows(make_rows(32), tokenizer, ["text"], 32),
        processing_class=tokenizer,
        args=TrainingArguments(
            str(tmp_path),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            num_train_epochs=6,
            per_device_train_batch_size=8,
            learning_rate=3e-3,
            logging_steps=1,
        ),
    )
    trainer.train()
    names = list(
        objective.parts[0](run(student, _some(trainer)), run(teacher, _some(trainer)), _some(trainer), 0.0)
    )
    history = [[entry[name] for entry in trainer.state.log_history if name in entry] for name in names]
    assert all(sum(values[-4:]) < sum(values[:4]) for values in history)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    learnt = [parameter for parameter in objective.parts[0].parameters() if parameter.requires_grad]
    assert bool(learnt) == (kind in ("hints", "patient", "flow"))
    trainer.save_model(str(tmp_path / "student"))
    saved = type(student).from_pretrained(tmp_path / "student")
    assert saved.state_dict().keys() == student.state_dict().keys()


def _some(trainer):
    return next(iter(trainer.get_train_dataloader()))


# ---- teachers with a tokenizer of their own --------------------------------------------------------------------------


@pytest.fixture
def other_batch(batch):
    """The batch for a teacher that reads fewer tokens of a text: its own ids and mask, as wide as the student's.

    Of equal widths, wrong masks and tokens would be taken without a word.
    """
    width = batch["attention_mask"].shape[1]
    lengths = (batch["attention_mask"].sum(dim=1) - torch.tensor([0, 1, 2, 1, 2, 3])).clamp(min=2)
    mask = (torch.arange(width) < lengths[:, None]).long()
    ids = torch.where(mask.bool(), batch["input_ids"] + 1, 0)
    assert not torch.equal(mask, batch["attention_mask"])
    return batch | {"teacher_input_ids": ids, "teacher_attention_mask": mask}


def run_teacher(model, batch):
    named = {"input_ids": batch["teacher_input_ids"], "attention_mask": batch["teacher_attention_mask"]}
    return run(model, named)


@pytest.mark.parametrize(
    "make",
    [
        lambda student, teacher: RelationalKD((1, 3)),
        lambda student, teacher: SimilarityPreserving((1, 3)),
        lambda student, teacher: Flow(student.config, teacher.config),
    ],
)
def test_the_teachers_padding_does_not_count_where_it_reads_tokens_of_its_own(
    student, teacher, other_batch, make
):
    objective = make(student, teacher)
    own, other = run(student, other_batch), run_teacher(teacher, other_batch)
    padding = other_batch["teacher_attention_mask"] == 0
    disturbed = [states.masked_fill(padding[..., None], 1e3) for states in other["hidden_states"]]
    losses = [
        objective(own, ModelOutput(hidden_states=states), other_batch, 0.0)
        for states in (other["hidden_states"], disturbed)
    ]
    for name, loss in losses[0].items():
        torch.testing.assert_close(loss, losses[1][name])


@pytest.mark.parametrize(
    "objective",
    [Hints, TinyBERTLayers, MiniLM, MiniLMv2, DistilBERT, lambda *configs: OverTokens(SoftTargets())],
)
def test_what_is_compared_token_by_token_refuses_a_teacher_of_other_tokens(make_bert, other_batch, objective):
    model = make_bert(num_attention_heads=2).eval()
    inputs = {name: other_batch[name] for name in ("input_ids", "attention_mask")}
    outputs = run_model(model, inputs, frozenset({"hidden_states", "queries", "keys", "values"}))
    outputs["logits"] = draw(*other_batch["input_ids"].shape, 3)
    labels = torch.zeros_like(other_batch["input_ids"])
    objective = objective(model.config, model.config)
    with pytest.raises(InputError, match="the teacher reads other tokens than the student; give both one"):
        objective(outputs, outputs, other_batch | {"labels": labels}, 0.0)
    same = {**other_batch, "labels": labels, "teacher_input_ids": other_batch["input_ids"]}
    assert sum(
        objective(outputs, outputs, same, 0.0).values()
    ).isfinite()  # its own tokenizer, but the same tokens


def test_a_term_without_weight_is_not_computed():
    """The angles of a batch are as many as the cube of its rows."""
    outputs = [SequenceClassifierOutput(logits=draw(6, 3, seed=seed)) for seed in (0, 1)]
    terms = RelationalKD(None, angle=0)(*outputs, {}, 0.0)
    assert list(terms) == ["distance"]
    assert list(RelationalKD(None, distance=0)(*outputs, {}, 0.0)) == ["angle"]


@pytest.mark.parametrize("make", [Hints, PatientKD, Flow, MiniLM, MiniLMv2, TinyBERTLayers])
def test_students_without_layers_are_refused_where_layers_are_compared(make, make_bert):
    student = BiLSTMConfig(vocab_size=20, embedding_size=4, hidden_size=4)
    with pytest.raises(
        InputError, match=f"{make.__name__} compares layers of transformers, and a model with a BiLSTM"
    ):
        make(student, make_bert().config)


@pytest.mark.parametrize("kind", [RelationalKD, SimilarityPreserving])
def test_logits_of_tokens_are_no_rows(kind):
    outputs = SequenceClassifierOutput(logits=draw(2, 5, 3))
    with pytest.raises(ValueError, match="put the objective in OverTokens"):
        kind(layers=None)(outputs, outputs, {}, 0.0)


def test_an_encoder_teaches_states_to_a_student_of_any_labels(make_bert, make_rows, tokenizer, tmp_path):
    student, teacher = make_bert(labels=("a", "b", "c")), make_bert(seed=1, hidden_size=24).bert
    assert teacher.config.num_labels == 2  # which a base model's config says too
    args = TrainingArguments(
        str(tmp_path), max_steps=1, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no"
    )
    DistillationTrainer(
        model=student,
        teacher=teacher,
        objective=Hints(student.config, teacher.config),
        args=args,
        train_dataset=encode_rows(make_rows(8), tokenizer, ["text"], 32),
        processing_class=tokenizer,
    ).train()
