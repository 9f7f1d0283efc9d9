"""The rules of the house: short files and functions, imports that run one way, torch's private names in one
place."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bugs import BUGS

ROOT = Path(__file__).parents[1]
FILE_LINES = 300
FUNCTION_LINES = 60  # from `def` to the last line, docstring included

# What may be longer, and why.
LONG: dict[str, str] = {}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; cli/ is contrastkit.cli."""
    named = {}
    for folder, package in (("contrastkit", "contrastkit"), ("cli", "contrastkit.cli")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "contrastkit" and parts[0] == "cli":
                continue  # the link that `make lint` lays
            named[".".join((package, *parts)).removesuffix(".__init__")] = path
    return named


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def functions(node: ast.AST, above: str) -> Iterator[tuple[str, int]]:
    """Each function below by its dotted name, and how many lines it has."""
    for child in ast.iter_child_nodes(node):
        name = above
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{above}.{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield name, (child.end_lineno or 0) - child.lineno + 1
        yield from functions(child, name)


def test_files_and_functions_are_short() -> None:
    """An exception that is no longer needed fails too."""
    long = {}
    for name, path in MODULES.items():
        if (lines := len(path.read_text().splitlines())) > FILE_LINES:
            long[name] = lines
        long |= {function: lines for function, lines in functions(TREES[name], name) if lines > FUNCTION_LINES}
    assert {name: lines for name, lines in long.items() if name not in LONG} == {}
    assert LONG.keys() - long.keys() == set()


def test_an_installation_has_every_package() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == {name for name, path in MODULES.items() if path.name == "__init__.py"}


def test_the_text_and_the_test_of_every_bug_are_there() -> None:
    assert [bug for bug in BUGS if bug.outdated] == []


# ------------------------------------------------------------------------------------------------------------- imports


def without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, but for those of `if TYPE_CHECKING:`, which never run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from without_type_checking(child)


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, also those inside functions: a lazy import can hide a circle.

    `from package import module` counts as the module; the packages above it, which run first, do not count: nothing
    can go around them.
    """
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    imported = set()
    for node in without_type_checking(TREES[name]):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                imported.add(whole if whole in MODULES else base)
    return {module for module in imported if module in MODULES} - {name}


def offered(tree: ast.Module) -> set[str]:
    """The modules that `contrastkit` imports by name when they are asked for: its _FUNCTIONS and _PACKAGES."""
    tables = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("_FUNCTIONS", "_PACKAGES")
    }
    return {*tables["_FUNCTIONS"].values(), *(f"contrastkit.{package}" for package in tables["_PACKAGES"])}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                components.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return components


GRAPH = {name: imports(name) for name in MODULES}
GRAPH["contrastkit"] |= offered(TREES["contrastkit"])


def package_of(name: str) -> str:
    """contrastkit.causal of contrastkit.causal.graph; a module that lies beside the packages stands for itself."""
    return ".".join(name.split(".")[:2])


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d", "a"}}) == [["b", "c"]]


def test_what_the_front_door_offers_is_seen() -> None:
    assert offered(TREES["contrastkit"]) <= MODULES.keys()
    assert {"contrastkit.evaluate", "contrastkit.training.api"} <= GRAPH["contrastkit"]


def test_no_module_imports_itself_through_others() -> None:
    assert circles(GRAPH) == []


def test_no_package_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for name, others in GRAPH.items():
        graph.setdefault(package_of(name), set()).update(package_of(other) for other in others)
    assert circles(graph) == []


def test_the_library_does_not_know_its_command_line() -> None:
    knowing = {
        name
        for name, others in GRAPH.items()
        if package_of(name) not in ("contrastkit.cli", "contrastkit.__main__")
        and any(package_of(other) == "contrastkit.cli" for other in others)
    }
    assert knowing == set()


# ----------------------------------------------------------------------------------------------- torch's private names


def private_names(tree: ast.AST) -> list[str]:
    """Names of torch that begin with one underscore, as `torch.a._b` or imported."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if re.match(r"torch(\.\w+)*\._(?!_)", name)]


@pytest.mark.parametrize(
    ("code", "private"),
    [
        ("torch.__version__", False),
        ("torch.nn.functional.relu", False),
        ("torch._foreach_norm(x)", True),
        ("torch.cpu._is_vnni_supported()", True),
        ("import torch._dynamo", True),
        ("from torch.nn.modules.batchnorm import _BatchNorm", True),
        ("from torch.utils._pytree import tree_leaves", True),
        ("from torchvision._utils import x", False),
    ],
)
def test_private_names_are_seen(code: str, private: bool) -> None:
    assert bool(private_names(ast.parse(code))) == private


def test_only_compat_uses_private_names_of_torch() -> None:
    """Tests may: they spy on torch, and a new version shows in them at once."""
    trees = TREES | {
        str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted((ROOT / "benchmarks").glob("*.py"))
    }
    private = {name: private_names(tree) for name, tree in trees.items() if name != "contrastkit.compat"}
    assert {name: names for name, names in private.items() if names} == {}
