"""Regular expressions that are compiled when they are first used.

Few commands need one, none needs all; to import `re` takes longer than all that `latest` does.
"""

from __future__ import annotations

from ckptool.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from typing import Any, AnyStr

_patterns: dict[str | bytes, re.Pattern[Any]] = {}


def compiled(pattern: AnyStr) -> re.Pattern[AnyStr]:
    """The regular expression, in which a dot is any character: names may have line breaks."""
    found = _patterns.get(pattern)
    if found is None:
        import re

        found = _patterns[pattern] = re.compile(pattern, re.DOTALL)
    return found
