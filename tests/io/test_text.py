"""Text files as people's programs write them."""

from dsonas_mx.io.text import read_lines, read_text

import pytest

NAMES = ["b\u00e4r", "hund"]


@pytest.mark.parametrize(
    "encoding, mark",
    [
        ("utf-8", b""),
        ("utf-8-sig", b""),
        ("utf-16", b""),
        ("utf-16-be", b"\xfe\xff"),
        ("latin-1", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_any_encoding(tmp_path, encoding, mark, end):
    path = tmp_path / "classes.txt"
    path.write_bytes(mark + f"{end} {NAMES[0]}\t{end}{end}{NAMES[1]}".encode(encoding))
    assert read_lines(path) == [(2, NAMES[0]), (4, NAMES[1])]


@pytest.mark.parametrize("content", [b"a\0b\0", b"\x89PNG\r\n\x1a\n\0", b"\x1b[2Jx"])
def test_what_is_no_text_is_named(tmp_path, content):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="classes.txt: no text, it has the character"):
        read_text(path)
