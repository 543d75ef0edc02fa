"""What is asked of every complaint about bad input."""


def lines(text: str) -> list[str]:
    """The complaints on standard error, each one line; there is nothing else, no traceback least of all."""
    found = text.splitlines()
    assert "Traceback" not in text
    assert [line for line in found if not line.startswith("error: ")] == []
    return found


def hold(line: str, *words: str) -> None:
    """A line says everything it must, and shows nothing of pydantic's inner names."""
    assert [word for word in words if word not in line] == [], line
    assert [
        word for word in ("function-after", "function-before", "[type=", "Value error") if word in line
    ] == []
    assert len(line) < 400, line
