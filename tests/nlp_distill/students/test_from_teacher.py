"""Students cut from a teacher: what is copied, what is projected, and that every family works."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from data_augment.errors import InputError
from nlp_distill.internals import run_model
from nlp_distill.layer_map import last
from nlp_distill.losses import scale_scores
from nlp_distill.students import SMALL_2X128, SMALL_3X312, TINYBERT_4, TINYBERT_6, Shape, student_from_teacher
from nlp_distill.students.from_teacher import find_axes, find_layers, read_shape, truncate

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 32, "num_labels": 3, "initializer_range": 0.3}
FAMILIES = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SIZES, pad_token_id=1)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=16)),
    "electra-narrow": lambda: ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=8)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=60,
            dim=16,
            n_layers=4,
            n_heads=4,
            hidden_dim=32,
            max_position_embeddings=32,
            num_labels=3,
        )
    ),
}
each_family = pytest.mark.parametrize("family", FAMILIES)


def make_teacher(family, seed=0):
    torch.manual_seed(seed)
    return FAMILIES[family]().eval()


@pytest.fixture
def inputs():
    ids = torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@each_family
def test_at_the_same_shape_the_student_is_the_teacher(family, inputs):
    teacher = make_teacher(family)
    student = student_from_teacher(teacher, read_shape(teacher.config))
    assert student.training and type(student) is type(teacher)
    torch.testing.assert_close(student.eval()(**inputs).logits, teacher(**inputs).logits)
    assert student.config.id2label == teacher.config.id2label


@each_family
@pytest.mark.parametrize(("layer_map", "expected"), [(None, (2, 4)), (last, (3, 4))])
def test_where_the_width_is_kept_layers_are_copied_by_the_layer_map(family, layer_map, expected):
    teacher = make_teacher(family)
    more = {} if layer_map is None else {"layer_map": layer_map}
    student = student_from_teacher(teacher, Shape(2, 16, 4, 32), **more)
    for own, number in zip(find_layers(student), expected, strict=True):
        source = find_layers(teacher)[number - 1].state_dict()
        assert all(torch.equal(weight, source[name]) for name, weight in own.state_dict().items())
    assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)


@each_family
def test_narrower_students_run_train_save_and_load(family, inputs, tmp_path):
    teacher = make_teacher(family)
    student = student_from_teacher(teacher, Shape(2, 8, 4, 20))
    assert read_shape(student.config) == Shape(2, 8, 4, 20)
    student(**inputs, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert student.get_input_embeddings().weight.grad.abs().sum() > 0
    student.save_pretrained(tmp_path)
    loaded = type(student).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(**inputs).logits, student.eval()(**inputs).logits)


def test_embeddings_are_rotated_onto_their_principal_axes():
    teacher = make_teacher("bert")
    student = student_from_teacher(teacher, Shape(2, 8, 4, 20))
    words = teacher.get_input_embeddings().weight.detach()
    axes = find_axes(teacher, 8).float()
    torch.testing.assert_close(axes.T @ axes, torch.eye(8), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.get_input_embeddings().weight.detach(), words @ axes)
    # Independently: scikit-learn's components span the same space.
    from sklearn.decomposition import PCA

    components = torch.tensor(PCA(8).fit(words.numpy()).components_, dtype=torch.float32)
    torch.testing.assert_close(axes @ axes.T, components.T @ components, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sizes", [{"max_position_embeddings": 16}, {"vocab_size": 16}, {"num_labels": 16}])
def test_an_axis_as_long_as_the_teacher_is_wide_is_no_width(sizes):
    """BERT-small and BERT-medium have 512 positions and are 512 wide."""
    torch.manual_seed(0)
    teacher = BertForSequenceClassification(BertConfig(**SIZES | sizes))
    student = student_from_teacher(teacher, Shape(2, 8, 4, 20))
    axes = find_axes(teacher, 8).float()
    for part in ("bert.embeddings.position_embeddings", "bert.embeddings.word_embeddings", "classifier"):
        own, source = (model.get_submodule(part).weight.detach() for model in (student, teacher))
        assert own.shape == (source.shape[0], 8)
        torch.testing.assert_close(own, source @ axes)


def test_electra_s_embeddings_keep_a_width_of_their_own():
    torch.manual_seed(0)
    teacher = ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=12))
    with torch.no_grad():
        teacher.electra.embeddings.LayerNorm.weight.normal_()
    student = student_from_teacher(teacher, Shape(2, 8, 4, 20))
    own, source = (model.electra.embeddings.state_dict() for model in (student, teacher))
    assert all(torch.equal(own[name], source[name]) for name in source)
    projected = teacher.electra.embeddings_project.weight.detach()
    torch.testing.assert_close(
        student.electra.embeddings_project.weight.detach(), find_axes(teacher, 8).float().T @ projected
    )


def test_attention_scores_are_the_best_of_their_rank():
    """At the same inputs x = h P the student's scores are the truncated SVD of the teacher's bilinear form."""
    teacher = make_teacher("bert")
    for module in teacher.modules():  # biases are zero at the start, which would hide a mistake
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.bias, std=0.3)
    student = student_from_teacher(teacher, Shape(2, 8, 4, 20)).eval()
    axes = find_axes(teacher, 8).float()
    states = torch.randn(1, 5, 8)
    own, other = find_layers(student)[0].attention.self, find_layers(teacher)[1].attention.self

    def scores(attention, inputs):
        queries, keys = (
            layer(inputs).unflatten(-1, (4, -1)).transpose(1, 2) for layer in (attention.query, attention.key)
        )
        return scale_scores(queries, keys)

    for head in range(4):
        part = slice(head * 4, (head + 1) * 4)
        left = torch.cat([axes.T @ other.query.weight[part].T, other.query.bias[part][None]])
        right = torch.cat([axes.T @ other.key.weight[part].T, other.key.bias[part][None]])
        u, s, v = torch.linalg.svd(left @ right.T / 4**0.5)
        extended = torch.cat([states[0], torch.ones(5, 1)], dim=1)
        expected = extended @ (u[:, :2] * s[:2]) @ v[:2] @ extended.T
        torch.testing.assert_close(scores(own, states)[0, head], expected, atol=1e-4, rtol=1e-3)


def test_the_largest_feed_forward_units_stay():
    teacher = make_teacher("bert")
    source = find_layers(teacher)[1]
    with torch.no_grad():
        source.intermediate.dense.weight[:20] *= 100
    student = student_from_teacher(teacher, Shape(2, 16, 4, 20))
    own = find_layers(student)[0]
    assert torch.equal(own.intermediate.dense.weight, source.intermediate.dense.weight[:20])
    assert torch.equal(own.output.dense.weight, source.output.dense.weight[:, :20])


def test_truncation_is_the_best_approximation_of_its_rank():
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(9, 4, generator=generator)
    right = torch.randn(4, 7, generator=generator)
    a, b = truncate(left, right, 2)
    _, values, _ = torch.linalg.svd(left @ right)
    error = (a @ b - left @ right).square().sum()
    torch.testing.assert_close(error, values[2:].square().sum(), rtol=1e-4, atol=1e-4)  # Eckart and Young


def test_other_head_counts_leave_attention_random_and_the_rest_initialised():
    teacher = make_teacher("bert")
    one, two = (student_from_teacher(teacher, Shape(2, 8, 2, 20), seed=seed) for seed in (0, 1))
    first, second = (find_layers(model)[0] for model in (one, two))
    assert not torch.equal(first.attention.self.query.weight, second.attention.self.query.weight)
    assert torch.equal(first.intermediate.dense.weight, second.intermediate.dense.weight)


def test_a_random_student_owes_nothing_to_the_teacher_and_the_seed_decides():
    one = student_from_teacher(make_teacher("bert", seed=0), Shape(2, 8, 4, 20), random=True, seed=3)
    torch.rand(5)
    two = student_from_teacher(make_teacher("bert", seed=9), Shape(2, 8, 4, 20), random=True, seed=3)
    other = student_from_teacher(make_teacher("bert", seed=9), Shape(2, 8, 4, 20), random=True, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_the_teacher_and_the_random_state_are_left_alone():
    teacher = make_teacher("bert")
    before, config = [weight.clone() for weight in teacher.parameters()], teacher.config.to_dict()
    state = torch.get_rng_state()
    student_from_teacher(teacher, Shape(2, 8, 4, 20))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert teacher.config.to_dict() == config


def test_a_narrow_student_starts_nearer_to_its_teacher_than_a_random_one(inputs):
    """In attention, with states that live in the space that the axes span."""
    teacher = make_teacher("bert")
    with (
        torch.no_grad()
    ):  # embeddings of rank 8, as those of real models nearly have a lower rank than their width
        words = teacher.get_input_embeddings().weight
        words.copy_(words @ find_axes(teacher, 8).float() @ find_axes(teacher, 8).float().T)
    shape = Shape(4, 8, 4, 32)
    needs = frozenset({"queries", "keys"})
    target = run_model(teacher, inputs, needs)

    def distance(student):
        own = run_model(student.eval(), inputs, needs)
        scores = [scale_scores(side["queries"][0], side["keys"][0]) for side in (own, target)]
        return (scores[0] - scores[1]).square().mean().item()

    started = distance(student_from_teacher(teacher, shape))
    drawn = [distance(student_from_teacher(teacher, shape, random=True, seed=seed)) for seed in range(5)]
    assert started < min(drawn)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(5, 8, 4, 20), "layers is 5 but the teacher has 4; give 4 or less"),
        (Shape(2, 32, 4, 20), "hidden is 32 but the teacher has 16"),
        (Shape(2, 8, 4, 64), "ffn is 64 but the teacher has 32"),
    ],
)
def test_students_larger_than_the_teacher_are_refused(shape, message):
    with pytest.raises(InputError, match=message):
        student_from_teacher(make_teacher("bert"), shape)


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="hidden is 10 and heads 4; the heads must divide"):
        Shape(2, 10, 4, 20)
    with pytest.raises(InputError, match="layers is 0; it must be a whole number from 1 to 1000"):
        Shape(0, 8, 4, 20)


def test_the_presets_have_the_papers_sizes():
    """14.5M and 67M parameters with BERT's vocabulary: Jiao et al. 2019, table 1 and section 4.2."""
    for shape, millions in ((TINYBERT_4, 14.35), (TINYBERT_6, 66.96)):
        config = BertConfig(num_labels=2)
        config.num_hidden_layers, config.hidden_size = shape.layers, shape.hidden
        config.num_attention_heads, config.intermediate_size = shape.heads, shape.ffn
        with torch.device("meta"):
            model = BertForSequenceClassification(config)
        assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert SMALL_3X312.hidden == 312 and SMALL_2X128.heads == 2
