"""Small files that claim much: each is a kind of which damaged and hostile files are examples."""

from __future__ import annotations

import json
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


BOMB_BYTES = 1 << 28


def bomb(name: str) -> bytes:
    """256 MiB of zeros in some hundred thousand bytes or fewer."""
    if name == "zstd":
        return imagecodecs.zstd_encode(bytes(BOMB_BYTES))
    packer = zlib.compressobj(1, wbits={"zlib": 15, "gzip": 31}[name])
    blocks = [packer.compress(bytes(1 << 20)) for _ in range(BOMB_BYTES >> 20)]
    return b"".join(blocks) + packer.flush()


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="1024" SizeY="1024" SizeC="3" SizeZ="1" SizeT="{time}">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="{planes}"/></Pixels></Image></OME>'
)
MILLION = 10**6
JPEG, LZMA, JPEG_2000, PNG, ZSTD, WEBP = 7, 34925, 34712, 34933, 50000, 50001


def slides(folder: Path) -> dict[Path, str]:
    """Write slides that claim too much; path -> a part of what must be said of it."""
    small, large = zlib.compress(bytes(256 * 256 * 3)), zlib.compress(bytes(4096 * 4096 * 3), 9)
    thousand = (1000, 1000)
    tiffs = {
        "sparse": (tiff_file(size=(MILLION, MILLION), tile=(4096, 4096), stored=False), "1000000 x 1000000 px"),
        "shared": (tiff_file(size=(MILLION, MILLION), tile=(4096, 4096), data=large), "1,000 gigapixels"),
        "short": (tiff_file(size=(MILLION, MILLION), tiles=40_000, data=small), "WSI_DEFORM_MAX_SLIDE_GPX"),
        "row": (tiff_file(size=(400_000, 400_000), tile=(4096, 4096), data=large), "2,346 MiB"),
        "empty": (tiff_file(size=(200_000, 200_000), tile=(4096, 4096), stored=False), "2,401 tiles, of which 0"),
        "strip": (tiff_file(size=(60_000, 60_000), tile=(0, 60_000), data=small), "10,299.7 MiB"),
        "raw": (tiff_file(size=(60_000, 60_000), tile=(0, 60_000), data=small, compression=1), "truncated"),
        "tile": (tiff_file(size=(60_000, 60_000), tile=(30_000, 30_000), data=small), "2,574.9 MiB"),
        "length": (tiff_file(size=(1000, 200), tile=(256, 256 | 1 << 30), tiles=4, data=small), "256 x 1073742080 px"),
        "bit": (tiff_file(size=(1000, 200), tile=(256, 256 | 1 << 17), tiles=4, data=small), "256 x 131328 px"),
        "held": (tiff_file(size=(4096, 4096), tile=(4096, 4096), data=small), "50,331,648 bytes of pixels in"),
        "jpeg": (tiff_file(size=thousand, data=jpeg_claiming(30_000, 30_000), compression=JPEG), "30,000 x 30,000 px"),
        "jpeg2000": (
            tiff_file(size=thousand, data=jpeg2000_claiming(30_000, 30_000), compression=JPEG_2000), "30,000 x 30,000",
        ),
        "png": (tiff_file(size=thousand, data=png_claiming(30_000, 30_000), compression=PNG), "30,000 x 30,000 px"),
        "webp": (tiff_file(size=thousand, data=webp_claiming(16_000, 16_000), compression=WEBP), "16,000 x 16,000 px"),
        "deflate": (tiff_file(size=thousand, data=bomb("zlib")), "cannot be decoded"),
        "zstd": (tiff_file(size=thousand, data=bomb("zstd"), compression=ZSTD), "cannot be decoded"),
        "times": (tiff_file(size=thousand, data=small, description=OME.format(time=10**9, planes=1)), "3,000,000,000"),
        "planes": (tiff_file(size=thousand, data=small, description=OME.format(time=1, planes=10**9)), "PlaneCount"),
        "imagej": (tiff_file(size=thousand, data=small, description="ImageJ=1\nimages=1000000000\n"), "images 1,000,"),
    }  # fmt: skip
    found = {}
    for name, (stored, said) in tiffs.items():
        path = folder / f"{name}.tif"
        path.write_bytes(stored)
        found[path] = said
    pictures = {
        "whole.png": (whole_png(18_000), "18000 x 18000 px, which decode to 927 MiB"),
        "claim.png": (png_claiming(12_000, 12_000), "432,000,000 bytes of pixels, in a file of 83 bytes"),
        "claim.jpg": (jpeg_claiming(12_000, 12_000), "432,000,000 bytes of pixels"),
        "larger.jpg": (jpeg_claiming(60_000, 60_000), "3600000000 pixels"),
    }
    for name, (stored, said) in pictures.items():
        (folder / name).write_bytes(stored)
        found[folder / name] = said
    many = {
        "codecs": [{"name": "transpose", "configuration": {"order": [0, 1, 2]}}] * 20_000 + codecs("zstd")
    }
    half = {"shape": [3, MILLION // 2, MILLION // 2]}
    arrays = {
        "chunks": ({"chunk_grid": chunk_grid([3, MILLION, MILLION])}, {}, "2,861,022.9 MiB"),
        "channels": ({"chunk_grid": chunk_grid([10**7, 256, 256])}, {}, "625,000 MiB"),
        "size": ({"shape": [3, MILLION, MILLION]}, {}, "1000000 x 1000000 px"),
        "none": (half, {}, "3,818,116 tiles, of which 0 are stored"),
        "rows": ({"chunk_grid": chunk_grid([3, 1, 900_000])}, {}, "which decode to"),
        "shards": (half | sharded([3, 2**18, 2**18], [3, 16, 16]), {}, "268,435,456 chunks"),
        "shard": (half | sharded([3, 2**17, 2**17], [3, 2**16, 2**16]), {}, "12,288 MiB"),
        "zstd": ({}, {"c/0/0/0": bomb("zstd")}, "decodes to 268,435,456 bytes"),
        "gzip": ({"codecs": codecs("gzip")}, {"c/0/0/0": bomb("gzip")[:200_000]}, "decodes to more than"),
        "blosc": ({"codecs": codecs("blosc")}, {"c/0/0/0": blosc_claiming(1 << 30)}, "1,073,741,824 bytes"),
        "raw": ({"codecs": [{"name": "bytes"}]}, {"c/0/0/0": bytes(1 << 28)}, "a chunk of more than 262,144 bytes"),
        "several": ({"codecs": codecs("gzip", "zstd")}, {}, "several compressions"),
        "codecs": (many, {}, "20,002 codecs, needed at most 16"),
    }  # fmt: skip
    for name, (array, chunks, said) in arrays.items():
        found[zarr_folder(folder / f"{name}.zarr", array, chunks)] = said
    return found


def blosc_claiming(nbytes: int) -> bytes:
    """A blosc chunk whose header says that it decodes to more."""
    made = bytearray(imagecodecs.blosc_encode(bytes(1000)))
    struct.pack_into("<I", made, 4, nbytes)
    return bytes(made)
