"""The values of tensors in V1 files."""

from __future__ import annotations

from ckptool.errors import CorruptionError, UnsupportedError
from ckptool.format.arrays import Array
from ckptool.format.dtypes import DType
from ckptool.format.names import decode_name
from ckptool.format.slices import Box
from ckptool.format.tensor_proto import decode_values
from ckptool.format.v1 import SavedSlice, SavedSlices, SavedTensor
from ckptool.model.tensors import StoredTensor


def v1_tensor(saved: SavedSlices, name: bytes, tensor: SavedTensor) -> StoredTensor:
    """The tensor that V1 metadata describes."""
    parts = [_SavedPart(saved, name, tensor.dtype, s) for s in tensor.slices]
    path = saved.file_path(tensor.slices[0].file)
    return StoredTensor(name, tensor.dtype, tensor.shape, parts, path)


class _SavedPart:
    """One SavedSlice of a V1 file. The table has checked its block, so there is nothing more to verify."""

    def __init__(self, saved: SavedSlices, name: bytes, dtype: DType, piece: SavedSlice) -> None:
        self.box = piece.box
        self._saved = saved
        self._name = name
        self._dtype = dtype
        self._piece = piece

    def ensure(self) -> None:
        # Every element takes a byte at least, however it is encoded.
        if len(self._saved.raw_values(self._name, self._piece)) < self.box.elements:
            raise self._fault(f"fewer values are stored than the {self.box.elements} it should have")

    def verify(self) -> None:
        self.ensure()  # reads the block, which the table checks

    is_streamed = False

    def scan(self, start: int, stop: int) -> tuple[Array, int]:
        return self.read(self.box, verify=False).reshape(-1)[start:stop], 0

    def compare(self, crc: int) -> None:
        pass

    def _fault(self, fault: str) -> CorruptionError:
        return CorruptionError(
            f"tensor {decode_name(self._name)}: {fault}", path=self._saved.file_path(self._piece.file)
        )

    def read(self, region: Box, *, verify: bool) -> Array:
        stored = self._saved.raw_values(self._name, self._piece)
        try:
            values = decode_values(stored, self._dtype)
        except (CorruptionError, UnsupportedError) as exc:
            exc.fault, exc.offset = f"tensor {decode_name(self._name)}: {exc.fault}", None
            raise exc.locate(path=self._saved.file_path(self._piece.file)) from exc
        if len(values) != self.box.elements:
            raise self._fault(f"{len(values)} values are stored where there should be {self.box.elements}")
        part: Array = values.reshape(self.box.size)[region.within(self.box)]
        return part
