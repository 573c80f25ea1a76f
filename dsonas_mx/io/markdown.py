"""Markdown: tables, and places in documents that commands renew."""

from typing import Sequence

from .files import PathLike, read_regular, write_text

_MOST_BYTES = 2**26


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the headings first."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["|" + "|".join(f" {c} " if c else " " for c in row) + "|" for row in escaped]
    return "\n".join([lines[0], "|" + "-|" * len(rows[0]), *lines[1:]])


def renew(path: PathLike, name: str, text: str) -> None:
    """Put `text` between the marks of that name in a document.

    Raises
    ------
    ValueError
        It has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = read_regular(path, _MOST_BYTES).decode("utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path} has no lines {begin} and {end} to write the table between")
    write_text(path, f"{before}{begin}\n{text}\n{end}{after}")
