"""Every module's ``__all__`` is true, and what a package's front door imports is on its list."""

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import dfpipe

MODULES = ["dfpipe", *sorted(found.name for found in pkgutil.walk_packages(dfpipe.__path__, "dfpipe."))]


def parse(module: ModuleType) -> ast.Module:
    assert module.__file__ is not None
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def own_names(module: ModuleType) -> set[str]:
    """Public classes and functions that the module defines itself."""
    return {
        node.name
        for node in parse(module).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    }


def re_exported(module: ModuleType) -> set[str]:
    """Names that an ``__init__`` imports from inside dfpipe."""
    return {
        alias.asname or alias.name
        for node in ast.walk(parse(module))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dfpipe")
        for alias in node.names
    }


@pytest.mark.parametrize("name", MODULES)
def test_all_is_true_sorted_and_without_repetition(name):
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert not [one for one in listed if not hasattr(module, one)], "listed but not there"
    assert len(set(listed)) == len(listed)
    assert not [one for one in listed if one.startswith("_") and one != "__version__"], (
        "a private name is not for others"
    )


@pytest.mark.parametrize("name", [name for name in MODULES if hasattr(importlib.import_module(name), "__path__")])
def test_a_front_door_lists_what_it_opens_to(name):
    module = importlib.import_module(name)
    listed = set(getattr(module, "__all__", [])) - {"__version__"}
    own = own_names(module)
    assert own <= listed
    # A door that only re-exports lists all it imports; one with functions of its own may import what these need.
    assert own or re_exported(module) == listed


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_others_import_from_says_what_is_for_them(name):
    module = importlib.import_module(name)
    if own_names(module):
        assert hasattr(module, "__all__"), "has public classes or functions but no __all__"
