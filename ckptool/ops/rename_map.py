"""Files that list new names."""

from __future__ import annotations

import json

from ckptool.errors import RequestError
from ckptool.format.names import decode_name
from ckptool.wire.files import StrPath, read_file

_MAX_SIZE = 1 << 30


def read_map(path: StrPath) -> list[tuple[str, str]]:
    """(old name, new name) as a file lists them: lines `old<TAB>new`, or one JSON object.

    Blank lines are passed over. RequestError, with the line, for anything else.
    """
    try:
        return parse_map(read_file(path, _MAX_SIZE))
    except RequestError as exc:
        raise exc.locate(path=str(path)) from exc


def parse_map(data: bytes) -> list[tuple[str, str]]:
    """As `read_map`, of the contents of a file."""
    if data.lstrip()[:1] == b"{":
        return _parse_json(data)
    pairs = []
    for number, line in enumerate(decode_name(data).split("\n"), 1):
        line = line.removesuffix("\r")
        old, tab, new = line.partition("\t")
        if not line:
            continue
        if not tab or "\t" in new:
            raise RequestError(f"line {number} is not of the form old<TAB>new")
        pairs.append((old, new))
    return pairs


def _parse_json(data: bytes) -> list[tuple[str, str]]:
    try:
        pairs = json.loads(data, object_pairs_hook=list)
    except (ValueError, RecursionError) as exc:
        raise RequestError(f"is no JSON object: {exc}") from exc
    for old, new in pairs:
        if not isinstance(new, str):
            raise RequestError(f"the new name of {old} is no text")
    return [(old, new) for old, new in pairs]
