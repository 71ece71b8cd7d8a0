"""What Zarr arrays declare, and what their chunks decode to, held against limits before zarr decodes them."""

from __future__ import annotations

import bz2
import lzma
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from imagecodecs import zstd_decode
from isal import isal_zlib
from zarr.storage import WrapperStore

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.limits import TILE, in_unit
from wsi_deform.slide.declared import SPARSEST, check_block, check_filled
from wsi_deform.slide.path import SlidePath
from wsi_deform.texts import parse_json

# Codecs by which bytes become other bytes, and those, before them, that change an array by no more than FILTERED.
COMPRESSIONS = frozenset(["blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"])
FILTERS = frozenset([
    "bytes", "endian", "transpose", "delta", "shuffle", "packbits", "fixedscaleoffset", "scale_offset", "quantize",
    "bitround", "astype", "cast_value", "crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3",
])  # fmt: skip
SHARDS = "sharding_indexed"
METADATA = frozenset(["zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"])
CODEC_LISTS = ("codecs", "index_codecs", "filters", "storage_transformers", "shape")
MAX_CODECS = 16
FILTERED = 16
INDEX_BYTES = 16
# Beyond its pixels a chunk holds checksums, and headers of what cannot be compressed.
SPARE_BYTES = 1 << 16
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRule:
    """What the chunks of an array may be.

    Attributes:
        compression: One of COMPRESSIONS, or "" for none.
        most: Bytes that one decodes to, at most.
        stored: Bytes of a stored chunk or shard, at most.
        files: How many files hold an array of which all is stored.
    """

    compression: str
    most: int
    stored: int
    files: int = 1


def chunk_rule(array: zarr.Array[Any], path: SlidePath) -> ChunkRule:
    """Check what an array declares of its chunks.

    Args:
        array: The array; nothing of it is read.
        path: The slide, for messages.

    Returns:
        What its chunks may be.

    Raises:
        SlideError: Chunks or shards are too large, or their codecs are none whose output can be limited.
    """
    about = _about(array.metadata)
    itemsize = array.dtype.itemsize
    name = array.name
    compressors, inner = _codecs(about, f"{path}: {name}")
    chunk = tuple(inner or array.chunks)
    whole = tuple(_whole_chunk(about, chunk))
    nbytes = math.prod(chunk) * itemsize
    check_block(f"chunks {chunk} in {name}", _as_size(chunk), nbytes, path)
    in_shard = 0
    if inner:
        in_shard = math.prod(-(-outer // own) for outer, own in zip(whole, chunk, strict=True))
        what = f"shards {whole} of {in_shard:,} chunks in {name}"
        check_block(what, _as_size(whole), in_shard * INDEX_BYTES, path)
    filtered = FILTERED if any(name not in ("bytes", *COMPRESSIONS) for name in compressors) else 1
    compression = next((name for name in compressors if name in COMPRESSIONS), "")
    most = nbytes * filtered + SPARE_BYTES
    stored = most if not inner else max(1, in_shard) * (most + INDEX_BYTES)
    files = math.prod(-(-side // own) for side, own in zip(array.shape, whole, strict=True))
    return ChunkRule(compression=compression, most=most, stored=stored, files=files)


def check_chunks(array: zarr.Array[Any], rule: ChunkRule, folder: Path) -> None:
    """Refuse an array of which next to no chunk or shard is stored.

    Args:
        array: The array.
        rule: Its ``chunk_rule``.
        folder: The slide, on this machine.

    Raises:
        TooLargeError: See ``declared.check_filled``.
    """
    # Counted no further than asked for: a slide may have a million.
    needed = rule.files // SPARSEST
    if needed:
        stored = sum(1 for _ in islice(_chunk_files(folder / array.path), needed))
        check_filled(rule.files, stored, folder)


def stores_chunks(array: zarr.Array[Any], folder: Path) -> bool:
    """Whether any chunk or shard of an array is stored in a folder on this machine."""
    first = array.metadata.encode_chunk_key((0,) * len(array.shape))
    return (folder / array.path / first).is_file() or next(
        _chunk_files(folder / array.path), None
    ) is not None


def _chunk_files(folder: str | Path) -> Iterator[str]:
    """The chunks in a folder and the folders in it, which are looked into no further than is asked for."""
    folders = [os.fspath(folder)]
    while folders:
        # A folder that is not there, or cannot be looked into, holds none.
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name not in METADATA and not entry.is_dir():
                    yield entry.path


def _about(metadata: Any) -> dict[str, Any]:
    """What an array says of its chunks and codecs, as JSON has it."""
    if metadata.zarr_format == 2:  # a fill value takes zarr longer than all else
        return {"zarr_format": 2, "filters": metadata.filters, "compressor": metadata.compressor}
    about: dict[str, Any] = metadata.to_dict()
    return about


def _as_size(shape: Sequence[int]) -> Size:
    """The last two axes, as a message shows them."""
    return Size(max(1, shape[-1]), max(1, shape[-2] if len(shape) > 1 else 1))


def _whole_chunk(about: Mapping[str, Any], chunk: Sequence[int]) -> Sequence[int]:
    """The shape of what lies in one file: a shard, or a chunk."""
    grid = about.get("chunk_grid")
    shape = grid.get("configuration", {}).get("chunk_shape") if isinstance(grid, Mapping) else None
    return chunk if shape is None else [int(side) for side in shape]


def _codecs(about: Mapping[str, Any], where: str) -> tuple[list[str], tuple[int, ...] | None]:
    """Names of the codecs of a chunk, in their order, and the shape of a chunk in shards, or None.

    Raises:
        SlideError: There are unknown ones, several compressions, or shards in shards.
    """
    inner: tuple[int, ...] | None = None
    if about.get("zarr_format") == 2:
        described = [*(about.get("filters") or ()), about.get("compressor")]
    else:
        described = list(about.get("codecs") or ())
    described = [_plain(each) for each in described if each is not None]
    if any(_name(each) == SHARDS for each in described):
        if len(described) > 1:
            raise _unreadable(where, "codecs around shards")
        configuration = described[0].get("configuration", {})
        inner = tuple(int(side) for side in configuration["chunk_shape"])
        described = [_plain(each) for each in configuration.get("codecs") or ()]
    names = [_name(each) for each in described]
    for name in names:
        if name not in COMPRESSIONS | FILTERS:
            raise _unreadable(where, "shards in shards" if name == SHARDS else f"codec {name!r}")
    if len([name for name in names if name in COMPRESSIONS]) > 1:
        raise _unreadable(where, f"several compressions ({', '.join(names)})")
    return names, inner


def _plain(codec: Any) -> dict[str, Any]:
    """A codec as JSON has it; zarr's metadata hold objects of several kinds."""
    for method in ("to_dict", "get_config"):
        if hasattr(codec, method):
            codec = getattr(codec, method)()
    return dict(codec)


def _name(codec: Mapping[str, Any]) -> str:
    return str(codec.get("name", codec.get("id"))).removeprefix("numcodecs.")


def _unreadable(where: str, found: str) -> SlideError:
    return SlideError(
        f"{where}: {found}. Needed at most one compression of {', '.join(sorted(COMPRESSIONS))}, in chunks or one "
        "level of shards. Write the slide again with one of these."
    )


class GuardedStore(WrapperStore[Any]):  # type: ignore[misc]
    """A store whose chunks are looked at before they are decoded.

    Attributes:
        rules: Path of an array -> what its chunks may be.
    """

    def __init__(self, store: Any, rules: dict[str, ChunkRule] | None = None, *, cuts: bool = False) -> None:
        """Wrap a store; arrays are named later in ``rules``; ``cuts`` is for those that give the start of a value."""
        super().__init__(store)
        self.rules = {} if rules is None else rules
        self._cuts = cuts or isinstance(store, zarr.storage.LocalStore)

    def _with_store(self, store: Any) -> Self:
        return type(self)(store, self.rules, cuts=self._cuts)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read a value; that of a chunk is checked.

        Raises:
            ValueError: It decodes to more than a chunk has, or, of metadata, see ``check_metadata``.
        """
        if key.rpartition("/")[2] in METADATA:
            if isinstance(self._store, zarr.storage.LocalStore) and byte_range is None:
                # zarr hands each of a dozen small files to a thread, which takes longer than to read them.
                return _metadata_in(self._store.root / key, prototype)
            found = await self._store.get(key, prototype, byte_range)
            if found is not None:
                check_metadata(found.as_numpy_array().tobytes())
            return found
        rule = self._rule(key)
        if rule is None or isinstance(byte_range, zarr.abc.store.SuffixByteRequest):  # the index of a shard
            return await self._store.get(key, prototype, byte_range)
        if byte_range is None and self._cuts:
            byte_range = zarr.abc.store.RangeByteRequest(0, rule.stored + 1)
        found = await self._store.get(key, prototype, byte_range)
        if found is not None:
            check_chunk(found.as_numpy_array(), rule)
        return found

    def _rule(self, key: str) -> ChunkRule | None:
        return next(
            (rule for path, rule in self.rules.items() if key.startswith(f"{path}/" if path else "")), None
        )


def _metadata_in(path: Path, prototype: Any) -> Any:
    """The metadata in a file of this machine, checked, as zarr wants them; None where there is none."""
    try:
        stored = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    check_metadata(stored)
    return prototype.buffer.from_bytes(stored)


def check_metadata(stored: bytes) -> None:
    """Refuse metadata with more codecs than an array has use for: zarr takes long to join them.

    Raises:
        ValueError: There are more than MAX_CODECS in a row, or it is no JSON, or too deep a one.
    """
    layer: list[Any] = [parse_json(stored.decode())]
    while layer:
        found = layer.pop()
        if isinstance(found, dict):
            for name in CODEC_LISTS:
                if isinstance(found.get(name), list) and len(found[name]) > MAX_CODECS:
                    raise ValueError(f"{len(found[name]):,} {name}, needed at most {MAX_CODECS}")
            layer += found.values()
        elif isinstance(found, list):
            layer += found


def check_chunk(stored: np.ndarray[Any, Any], rule: ChunkRule) -> None:
    """Refuse a stored chunk that would decode to more than a chunk has.

    Raises:
        ValueError: It would.
    """
    if len(stored) > rule.stored:
        raise ValueError(f"a chunk of more than {rule.stored:,} bytes")
    decoded = _decoded_bytes(stored, rule)
    if decoded > rule.most:
        said = f"{decoded:,}" if decoded > rule.most + 1 else f"more than {rule.most:,}"
        raise ValueError(f"a chunk that decodes to {said} bytes, needed at most {rule.most:,}")
    if decoded > TILE.value * FILTERED:
        raise ValueError(f"a chunk that decodes to {in_unit(decoded, TILE)}")


def _decoded_bytes(stored: np.ndarray[Any, Any], rule: ChunkRule) -> int:
    """Bytes that a chunk decodes to, by its header, or by decoding up to one more than there may be."""
    head, most = stored[:16].tobytes(), rule.most + 1
    try:
        if rule.compression == "blosc":
            return int(struct.unpack_from("<I", head, 4)[0])
        if rule.compression == "lz4":
            return int(struct.unpack_from("<I", head)[0])
        if rule.compression == "zstd":
            return _zstd_bytes(stored, head, most)
    except struct.error:
        return 0  # too short for a header: zarr says what is wrong
    if rule.compression in ("gzip", "zlib"):
        return _inflated_bytes(stored, 31 if rule.compression == "gzip" else 15, most)
    if rule.compression in ("bz2", "lzma"):
        decoder = bz2.BZ2Decompressor() if rule.compression == "bz2" else lzma.LZMADecompressor()
        return len(decoder.decompress(stored.tobytes(), most))
    return len(stored)


def _inflated_bytes(stored: np.ndarray[Any, Any], wbits: int, most: int) -> int:
    """ISA-L inflates several times as fast as what zarr decodes with; members may follow each other."""
    left, found = stored.tobytes(), 0
    while left and found < most:
        decoder = isal_zlib.decompressobj(wbits)
        found += len(decoder.decompress(left, most - found))
        if not decoder.eof:
            break
        left = decoder.unused_data
    return found


def _zstd_bytes(stored: np.ndarray[Any, Any], head: bytes, most: int) -> int:
    """By the frame's header; a frame that does not say is decoded into room for one byte more than there may be.

    Source:
        RFC 8878, section 3.1.1.1.
    """
    if head[:4] != ZSTD_MAGIC:
        return 0
    flags = head[4]
    size_bytes = (1 if flags & 0x20 else 0, 2, 4, 8)[flags >> 6]
    if size_bytes == 0:
        return len(zstd_decode(stored.tobytes(), out=most))
    start = 5 + (0 if flags & 0x20 else 1) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(stored[start : start + size_bytes].tobytes(), "little") + (
        256 if size_bytes == 2 else 0
    )
