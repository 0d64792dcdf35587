"""A file that remembers what was read of it."""

from __future__ import annotations

from ckptool.wire.files import LocalFile


class CountingFile(LocalFile):
    """An LocalFile with the (offset, size) of every read in `reads`, in order."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.reads: list[tuple[int, int]] = []

    @property
    def total(self) -> int:
        """How many bytes were read, those read twice counted twice."""
        return sum(size for _, size in self.reads)

    def read(self, offset: int, size: int) -> bytes:
        """As LocalFile reads."""
        self.reads.append((offset, size))
        return super().read(offset, size)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """As LocalFile reads."""
        self.reads.append((offset, len(buffer)))
        super().read_into(offset, buffer)
