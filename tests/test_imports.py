import sys
from pathlib import Path

import pytest

from ziggurat.errors import SpecError
from ziggurat.imports import accepts, import_function


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of a unique name into the working directory; gives the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"own_{tmp_path.name.replace('-', '_')}"

    def write(text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def complaint(name):
    with pytest.raises(SpecError) as caught:
        import_function(name, "space.function")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    return str(caught.value)


def test_function_in_the_working_directory_is_found(module):
    name = module("def build(x):\n    return x + 1\n")
    assert import_function(f"{name}:build", "space.function")(1) == 2


def test_working_directory_comes_last_so_that_it_hides_nothing(module, tmp_path):
    name = module("def f(): pass\n")
    import_function(f"{name}:f", "space.function")
    assert sys.path[-1] == str(tmp_path)


def test_missing_module_is_named(module):
    text = complaint("no_such_module_anywhere:f")
    assert "there is no module 'no_such_module_anywhere'" in text
    assert str(Path.cwd()) in text
    assert "there is no module 'json.nothing'" in complaint("json.nothing:f")


def test_module_that_the_users_module_needs_is_told_apart(module):
    assert "needs the module 'no_such_library'" in complaint(f"{module('import no_such_library')}:f")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('no licence\\nsecond line')", "raised RuntimeError: no licence; fix"),
        ("def f(:", "raised SyntaxError"),
        ("import sys\nsys.exit(3)", "raised SystemExit: 3"),
        ("f = 3", "is a int, not a function"),
        ("g = 3", "has no 'f'"),
    ],
)
def test_broken_module_gives_one_line(module, text, words):
    assert words in complaint(f"{module(text)}:f")


@pytest.mark.parametrize("name", ["", "module", "module:", ":f", "a:b:c", "a b:c", "../a:f", "a;b:c"])
def test_other_names_are_refused_before_anything_is_imported(name):
    with pytest.raises(SpecError, match="must read module:function"):
        import_function(name, "space.function")


def test_calls_are_held_against_parameters():
    def two(first, second=None):
        return first, second

    assert accepts(two, 1)
    assert accepts(two, 1, 2)
    assert accepts(two, first=1)
    assert not accepts(two, 1, 2, 3)
    assert not accepts(two, third=1)
