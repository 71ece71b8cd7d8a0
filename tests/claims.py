"""Small files that claim much: each is a kind of which damaged and hostile files are examples."""

from __future__ import annotations

import bz2
import json
import lzma
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np

# TIFF tag -> struct letter of its values.
LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 16: "Q"}


def tiff_file(
    *,
    size: tuple[int, int],
    tile: tuple[int, int] = (256, 256),
    tiles: int | None = None,
    data: bytes = b"",
    compression: int = 8,
    channels: int = 3,
    description: str = "",
    stored: bool = True,
) -> bytes:
    """A BigTIFF of one page by hand: tifffile writes no claims.

    Args:
        size: Width and height that it declares.
        tile: Of its tiles; a width of 0 makes strips of so many rows.
        tiles: How many are listed, all at the same place; None is as many as the size asks for.
        data: What lies there.
        compression: TIFF number.
        channels: 3 is RGB.
        description: Its ImageDescription.
        stored: Whether the tiles are listed as stored; else as left out.
    """
    across = -(-size[0] // tile[0]) if tile[0] else 1
    count = across * -(-size[1] // tile[1]) if tiles is None else tiles
    photometric = {3: 2, 1: 1}[channels] if compression != 7 else {3: 6, 1: 1}[channels]
    names = (322, 323, 324, 325) if tile[0] else (None, 278, 273, 279)
    tags = {
        256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [8] * channels), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [channels]), names[1]: (4, [tile[1]]),
    }  # fmt: skip
    if tile[0]:
        tags[322] = (4, [tile[0]])
    if description:
        tags[270] = (2, [description.encode() + b"\0"])
    start = 16
    tags[names[2]] = (16, [start if stored else 0] * count)
    tags[names[3]] = (4, [len(data) if stored else 0] * count)
    return _with_tags(tags, data)


def _with_tags(tags: dict[int, tuple[int, list]], data: bytes) -> bytes:
    body = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) + data)
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        count = len(values[0]) if kind == 2 else len(values)
        packed = values[0] if kind == 2 else struct.pack(f"<{count}{LETTERS[kind]}", *values)
        if len(packed) > 8:
            place = struct.pack("<Q", len(body))
            body += packed
            packed = place
        entries += struct.pack("<HHQ", tag, kind, count) + packed.ljust(8, b"\0")
    struct.pack_into("<Q", body, 8, len(body))
    return bytes(body + struct.pack("<Q", len(tags)) + entries + bytes(8))


def flat(width: int, height: int, channels: int = 3) -> np.ndarray:
    """A flat picture."""
    return np.full((height, width, channels) if channels > 1 else (height, width), 200, np.uint8)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of one flat row that says that it has more."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 + 3 * min(width, 1000)))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        for kind, held in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def whole_png(side: int) -> bytes:
    """A sound PNG of one gray, which is small whatever its side."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        for kind, held in parts
    )


def jpeg_claiming(width: int, height: int) -> bytes:
    """A JPEG of 16 x 16 px whose frame says more."""
    made = bytearray(imagecodecs.jpeg8_encode(flat(16, 16), level=80))
    at = made.index(b"\xff\xc0")
    struct.pack_into(">HH", made, at + 5, height, width)
    return bytes(made)


def jpeg2000_claiming(width: int, height: int) -> bytes:
    """A JPEG 2000 code stream whose size segment says more."""
    made = bytearray(imagecodecs.jpeg2k_encode(flat(16, 16), codecformat="j2k"))
    at = made.index(b"\xff\x51")
    struct.pack_into(">II", made, at + 6, width, height)
    struct.pack_into(">II", made, at + 22, width, height)
    return bytes(made)


def webp_claiming(width: int, height: int) -> bytes:
    """A lossless WebP whose header says more."""
    made = bytearray(imagecodecs.webp_encode(flat(16, 16), lossless=True))
    at = made.index(b"VP8L") + 9
    bits = int.from_bytes(made[at : at + 4], "little") >> 28 << 28
    made[at : at + 4] = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(made)


def zarr_folder(path: Path, array: dict, chunks: dict[str, bytes] | None = None, levels: int = 1) -> Path:
    """An OME-Zarr of format 3 by hand; ``array`` are changes of a sound array's metadata."""
    axes = [{"name": name, "type": "channel" if name == "c" else "space"} for name in "cyx"]
    datasets = [
        {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
        for number in range(levels)
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    path.mkdir()
    about = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (path / "zarr.json").write_text(json.dumps(about))
    sound = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [3, 600, 700],
        "data_type": "uint8",
        "chunk_grid": chunk_grid([3, 256, 256]),
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}],
        "attributes": {},
    }
    (path / "0").mkdir()
    (path / "0" / "zarr.json").write_text(json.dumps(sound | array))
    for name, stored in (chunks or {}).items():
        (path / "0" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "0" / name).write_bytes(stored)
    return path


def chunk_grid(shape: list[int]) -> dict:
    return {"name": "regular", "configuration": {"chunk_shape": shape}}


def codecs(*names: str) -> list[dict]:
    """Codecs of format 3 with what they need."""
    settings = {
        "zstd": {"level": 0, "checksum": False},
        "gzip": {"level": 5},
        "blosc": {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0},
    }
    return [{"name": "bytes"}, *({"name": name, "configuration": settings.get(name, {})} for name in names)]


def sharded(shard: list[int], inner: list[int]) -> dict:
    """Metadata of an array in shards."""
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    configuration = {
        "chunk_shape": inner,
        "codecs": codecs("zstd"),
        "index_codecs": index,
        "index_location": "end",
    }
    return {
        "chunk_grid": chunk_grid(shard),
        "codecs": [{"name": "sharding_indexed", "configuration": configuration}],
    }


BOMB_BYTES = 1 << 30


def bomb(name: str) -> bytes:
    """A GiB of zeros in some thousand bytes."""
    block, count = bytes(1 << 20), BOMB_BYTES >> 20
    if name in ("zlib", "gzip"):
        packer = zlib.compressobj(9, wbits=31 if name == "gzip" else 15)
        return b"".join(packer.compress(block) for _ in range(count)) + packer.flush()
    if name == "zstd":
        return b"".join(imagecodecs.zstd_encode(block * 16) for _ in range(count // 16))
    if name == "lzma":
        packer = lzma.LZMACompressor()
        return b"".join(packer.compress(block) for _ in range(count)) + packer.flush()
    if name == "bz2":
        packer = bz2.BZ2Compressor()
        return b"".join(packer.compress(block) for _ in range(count // 16)) + packer.flush()
    raise ValueError(name)
