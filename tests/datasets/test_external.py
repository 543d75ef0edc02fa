"""Data that only a script reads: nothing is loaded, and the fingerprint follows the content."""

import pytest
from pydantic import ValidationError

from ziggurat.datasets import External, external
from ziggurat.protocols import Signature


def test_without_a_path_there_is_nothing_to_check_and_no_fingerprint():
    External().check()
    assert External().fingerprint() == ""
    assert not External().told


def test_shape_and_classes_tell_what_a_model_takes_and_gives():
    data = External(shape=(1, 8, 8), classes=10)
    assert data.told
    assert data.signature() == Signature((1, 8, 8), 10)


def test_loading_says_who_reads_them(one_line):
    for load in (External().load, External().load_test):
        one_line(load, "read by the user's script alone", "search.trainer.kind")
    one_line(External().signature, "data.shape", "data.classes", "shape: [1, 8, 8]")


def test_fingerprint_follows_content_and_names_not_where_the_folder_lies(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "inside").mkdir(parents=True)
        (tmp_path / name / "inside/a.bin").write_bytes(b"abc")
        (tmp_path / name / "b.bin").write_bytes(b"")
    first, second = (External(path=str(tmp_path / name)) for name in ("one", "two"))
    assert first.fingerprint() == second.fingerprint()
    assert len(first.fingerprint()) == 16
    (tmp_path / "two/inside/a.bin").write_bytes(b"abd")
    assert first.fingerprint() != second.fingerprint()
    (tmp_path / "two/inside/a.bin").write_bytes(b"abc")
    assert first.fingerprint() == second.fingerprint()
    (tmp_path / "two/b.bin").rename(tmp_path / "two/c.bin")
    assert first.fingerprint() != second.fingerprint()


def test_a_file_has_a_fingerprint_too(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    assert (
        External(path=str(tmp_path / "a")).fingerprint() != External(path=str(tmp_path / "b")).fingerprint()
    )


def test_of_a_large_file_both_ends_and_the_size_count(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "WHOLE", 100)
    monkeypatch.setattr(external, "END", 10)
    path = tmp_path / "large"
    found = []
    for at in (None, 5, 195, 100):
        content = bytearray(200)
        if at is not None:
            content[at] = 1
        path.write_bytes(content)
        found.append(External(path=str(path)).fingerprint())
    assert len(set(found[:3])) == 3
    assert found[3] == found[0], "the middle of a large file is not read"
    path.write_bytes(bytes(201))
    assert External(path=str(path)).fingerprint() not in found


def test_a_missing_path_is_said_in_one_line(tmp_path, one_line):
    data = External(path=str(tmp_path / "nowhere"))
    one_line(data.check, "data.path", "nowhere", "correct the path")
    one_line(data.fingerprint, "data.path", "nowhere")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shape": [4]}, "shape is given without classes"),
        ({"classes": 4}, "classes is given without shape"),
        ({"shape": [4, 4], "classes": 2}, "[channels, height, width]"),
        ({"shape": [0], "classes": 2}, "all above 0"),
    ],
)
def test_half_a_signature_is_refused(given, words):
    with pytest.raises(ValidationError) as caught:
        External.model_validate({"kind": "external", **given})
    assert words in str(caught.value)


def test_it_survives_its_own_yaml():
    data = External(path="a", shape=(1, 2, 2), classes=3, chance={"val_accuracy": 0.1})
    assert External.model_validate(data.model_dump(mode="json", by_alias=True)) == data
