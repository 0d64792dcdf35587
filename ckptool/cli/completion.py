"""What shells need to complete names; imported only when one of them asks.

click does the rest: `_CKPTOOL_COMPLETE=bash_source ckptool` prints the script for bash.
"""

from __future__ import annotations

import shlex

from click.shell_completion import BashComplete, CompletionItem, add_completion_class


class QuotingBash(BashComplete):
    """click's completion for bash, for names with spaces, backslashes and wildcards in them."""

    source_template = BashComplete.source_template.replace("read type", "read -r type").replace(
        "COMPREPLY+=($value)", 'COMPREPLY+=("$value")'
    )

    def format_completion(self, item: CompletionItem) -> str:
        """The type, and the value as it is to stand on the command line; shells quote files themselves."""
        value = shlex.quote(item.value) if item.type == "plain" else item.value
        return f"{item.type},{value}"


def register() -> None:
    """Make click use what is here."""
    add_completion_class(QuotingBash, "bash")
