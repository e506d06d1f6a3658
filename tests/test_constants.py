"""Two public constants never share a name with different values: a wrong import would go unnoticed."""

import ast
import importlib
from collections import defaultdict
from typing import Any

from utils.system.files import PROJECT_ROOT


def constants_of(source: str) -> list[str]:
    """The names of the public constants that a module defines."""
    found = []
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [name for target in targets for name in getattr(target, "elts", [target])]
        found += [name.id for name in names if isinstance(name, ast.Name) and name.id.isupper()]
    return [name for name in found if not name.startswith("_")]


def test_public_constants_of_one_name_have_one_value() -> None:
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    for folder in ("utils", "reinforcement_learning"):
        for path in (PROJECT_ROOT / folder).rglob("*.py"):
            needs_ray = path.parent.name == "distributed"
            if not needs_ray and (names := constants_of(path.read_text())):
                module = ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)
                for name in names:
                    values[name][module] = getattr(importlib.import_module(module), name)
    assert len(values) > 100
    assert {name: of for name, of in values.items() if len(set(map(repr, of.values()))) > 1} == {}
