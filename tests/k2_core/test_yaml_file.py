"""What is wrong with a YAML file is one line that says where, what was found and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_core.errors import SpecError
from k2_core.yaml_file import read_document


def test_a_document(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: &x {b: 1.50}\nc: *x\n")
    assert read_document(path) == {"a": {"b": 1.5}, "c": {"b": 1.5}}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"a: [", ", line 1, column 5: expected the node content, but found '<stream end>'", id="no-end"),
        pytest.param(b"a: {b: 1\nc: 2", ", line 2, column 2: expected ',' or '}', but got ':'", id="no-brace"),
        pytest.param(b"a:\n\tb: 1", ", line 2, column 1: character '\\t' that cannot start any token", id="tab"),
        pytest.param(b"a: 1\n---\nb: 2\n", ", line 2, column 1: another document", id="two-documents"),
        pytest.param(b"a: 1\na: 2\n", ", line 2, column 1: the key 'a' a second time", id="key-twice"),
        pytest.param(b"a: &x 1\n*x : 1\n1: 2\n", ", line 3, column 1: the key '1' a second time", id="alias-twice"),
        pytest.param(b"? {a: 1}\n: 2\n", ", line 1, column 3: unhashable key", id="mapping-as-key"),
        pytest.param(b"? [a]\n: 2\n? [a]\n: 3\n", ", line 1, column 3: unhashable key", id="lists-as-keys"),
        pytest.param(
            b"!!python/object/apply:os.getcwd []",
            ", line 1, column 1: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.getcwd'",
            id="code",
        ),
        pytest.param(
            b"a: \0",
            ': unacceptable character #x0000: special characters are not allowed in "<unicode string>", position 3',
            id="no-text",
        ),
    ],
)
def test_where_it_is_no_yaml(content: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_document(path)
    assert caught.value.found == f"{path}{fault}"
    assert caught.value.expected == "one YAML document with each key once"


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe")
    for name, what in (("nowhere.yaml", "No such file"), (".", "Is a directory"), ("latin.yaml", "codec can't decode")):
        with pytest.raises(SpecError, match=what) as caught:
            read_document(tmp_path / name)
        assert caught.value.found.startswith(f"{tmp_path / name} (")
        assert caught.value.expected == "a readable UTF-8 file"
