"""Calls to Inxmail that must not exist, looked for in the program itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for folder in ("connectors/inxmail", "streams", "schemas") for path in sorted((ROOT / folder).rglob("*.py"))
]


def words(source: str) -> Iterator[str]:
    """Every name, keyword and text of a module, without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""  # a docstring, of a module, a class, a function or an attribute
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg is not None:
            yield node.arg


def test_no_import_can_take_people_off_a_list_first() -> None:
    assert "truncate" in set(words("call(truncate=True)"))
    found = {
        str(path.relative_to(ROOT)): word
        for path in SOURCES
        for word in words(path.read_text())
        if word.lower() == "truncate" or "truncate=" in word.lower()
    }

    assert not found


def test_nothing_is_posted_that_could_send_a_confirmation_mail() -> None:
    """Whoever subscribes by an event starts the process of the list; whoever imports does not."""
    tree = ast.parse((ROOT / "connectors/inxmail/client.py").read_text())
    posting = {
        function.name: {
            node.value for node in ast.walk(function) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef)
        and any(isinstance(node, ast.Constant) and node.value == "POST" for node in ast.walk(function))
    }

    assert posting.keys() == {"unsubscribe", "start_import"}
    assert "events/unsubscriptions" in posting["unsubscribe"]
    assert "imports/recipients" in posting["start_import"]


def test_only_the_client_asks_inxmail() -> None:
    asking = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "ask"
    }

    assert asking == {"connectors/inxmail/client.py"}
