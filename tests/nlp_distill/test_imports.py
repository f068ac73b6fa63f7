"""Imports point one way, cost nothing until something is used, and every public name says what it is."""

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import data_augment
import nlp_distill

PACKAGES = {package.__name__: Path(package.__file__).parent for package in (data_augment, nlp_distill)}

# Each layer may import itself and the ones before it. What is not named is a leaf and may import other leaves only.
LAYERS = [
    {"leaves"},
    {"objectives"},
    {"batching", "distillation_model", "encoding", "multitask"},
    {"teachers"},
    {"labelled_files", "teacher_states"},
    {"labelling"},
    {"compression", "evaluation", "export", "handover", "trainer"},
    {"benchmark", "cards", "report", "serve"},
    {"multitask_trainer", "tagging"},
    {"training"},
    {"pipelines"},
    {"commands"},
    {"cli"},
    {"__main__"},
]


def list_modules(package):
    root = PACKAGES[package]
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join([package, *(part for part in parts if part != "__init__")]), path


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def list_imports(module, path, when_loaded_only=False):
    """Absolute names of the modules that ``path`` imports; optionally only those that loading it imports."""
    return frozenset(walk_imports(module, path, when_loaded_only))


def walk_imports(module, path, when_loaded_only):
    tree = parse(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    skipped = set()
    for node in ast.walk(tree):
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if for_types or (when_loaded_only and inside_function):
            skipped |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def layer_of(module):
    """Number of the layer of an nlp_distill module; None for the package itself, whose names are lazy."""
    parts = module.split(".")
    if parts[0] != "nlp_distill" or len(parts) == 1:
        return None
    return next((number for number, names in enumerate(LAYERS) if parts[1] in names), 0)


ALL_MODULES = [(module, path) for package in PACKAGES for module, path in list_modules(package)]
NAMES = {module for module, _ in ALL_MODULES}


def test_every_layer_names_modules_that_exist():
    existing = {module.split(".")[1] for module in NAMES if module.count(".")}
    assert set().union(*LAYERS[1:]) <= existing


@pytest.mark.parametrize(("module", "path"), [pytest.param(*entry, id=entry[0]) for entry in ALL_MODULES])
def test_imports_point_to_earlier_layers(module, path):
    own = layer_of(module)
    if own is None:
        return
    for imported in list_imports(module, path) & NAMES:
        layer = layer_of(imported)
        assert layer is None or layer <= own, f"{module} imports {imported}, which stands on it"


def test_no_two_modules_import_each_other():
    imports = {
        module: list_imports(module, path, when_loaded_only=True) & NAMES for module, path in ALL_MODULES
    }
    packages = {module for module, path in ALL_MODULES if path.name == "__init__.py"}
    cycles = [
        (one, two)
        for one in imports.keys() - packages
        for two in imports[one] - packages
        if one < two and one in imports[two]
    ]
    assert cycles == []


@pytest.mark.parametrize("forbidden", ["nlp_distill", "torch", "transformers"])
def test_data_augment_never_imports(forbidden):
    """Except the masked language model, which is torch's, and imports it when one is loaded."""
    for module, path in list_modules("data_augment"):
        is_model = module == "data_augment.masked_lm" and forbidden != "nlp_distill"
        imports = list_imports(module, path, when_loaded_only=is_model)
        assert forbidden not in {name.partition(".")[0] for name in imports}, module


def test_only_the_readers_errors_and_word_vectors_of_data_augment_are_used_below_the_pipelines():
    allowed = {"data_augment.errors", "data_augment.rows", "data_augment.readers", "data_augment.glove"}
    for module, path in list_modules("nlp_distill"):
        layer = layer_of(module)
        if layer is not None and layer < layer_of("nlp_distill.pipelines"):
            used = {
                name
                for name in list_imports(module, path)
                if name in NAMES and name.startswith("data_augment")
            }
            assert used - {"data_augment"} <= allowed, module


def test_files_are_imported_from_packages_and_not_from_scripts_or_tests():
    for module, path in ALL_MODULES:
        roots = {name.partition(".")[0] for name in list_imports(module, path)}
        assert not roots & {"tests", "scripts"}, module


def loaded_by(code):
    """Top-level modules that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in json.loads(output.splitlines()[-1])}


HEAVY = {"torch", "transformers", "datasets", "pandas", "sklearn", "nltk", "textblob", "pyarrow", "spacy"}


@pytest.mark.parametrize(
    "code",
    [
        "import nlp_distill",
        "import data_augment",
        "import nlp_distill.cli; nlp_distill.cli.build_parser()",
        "import data_augment.cli",
    ],
)
def test_importing_a_package_or_its_command_line_loads_nothing_heavy(code):
    assert loaded_by(code) & HEAVY == set()


def test_data_augment_as_a_whole_runs_without_torch():
    modules = [info.name for info in pkgutil.walk_packages(data_augment.__path__, "data_augment.")]
    code = "\n".join(f"import {name}" for name in modules if not name.endswith("__main__"))
    assert loaded_by(code) & {"torch", "transformers", "nlp_distill"} == set()


FRONT_DOORS = [
    "data_augment",
    "nlp_distill",
    "nlp_distill.objectives",
    "nlp_distill.students",
    "nlp_distill.tasks",
]


@pytest.mark.parametrize("front_door", FRONT_DOORS)
def test_every_public_name_exists_and_says_what_it_is(front_door):
    module = importlib.import_module(front_door)
    assert module.__doc__ and module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert len((value.__doc__ or "").split()) >= 3, f"{front_door}.{name} has no docstring of its own"


@pytest.mark.parametrize("package", [data_augment, nlp_distill])
def test_public_names_are_sorted_listed_by_dir_and_unknown_ones_refused(package):
    assert package.__all__ == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018  the access itself is the test


@pytest.mark.parametrize(("module", "path"), [pytest.param(*entry, id=entry[0]) for entry in ALL_MODULES])
def test_every_module_and_public_function_has_a_docstring(module, path):
    tree = parse(path)
    if path.name == "__init__.py" and not tree.body:
        return
    assert ast.get_docstring(tree), f"{path.name} has no docstring"
    kinds = ast.FunctionDef | ast.ClassDef
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name} has no docstring"
