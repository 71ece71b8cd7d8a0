"""Sound files, damaged: a bit, a number, a tag, a value of JSON or a cell at a time, all from a seed."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
from pathlib import Path
from typing import Any

import tifffile

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    1000,
    32767,
    65535,
    65536,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
HUGE = (*NUMBERS, -1, 2**53, 2**63 - 1, 2**64, 10**18, 10**30)
TEXTS = (
    "",
    " ",
    "a" * 5000,
    "../../x",
    "NaN",
    "1e999",
    "0x10",
    "\0",
    "é",
    "=1+1",
    "255,0",
    "null",
    "9" * 5000,
)
HEAD_BYTES = 2048


def damaged_file(seed: Path, kind: str, rng: random.Random, out: Path) -> Path:
    """Write a damaged copy of a seed.

    Args:
        seed: A sound file or folder of that kind.
        kind: One of ``seeds.SEEDS``.
        rng: Decides what is damaged, and how.
        out: A folder for it, empty.

    Returns:
        The copy, of the same name.
    """
    path = out / seed.name
    if seed.is_dir():
        for each in sorted(seed.rglob("*")):
            if each.is_file():
                copied = path / each.relative_to(seed)
                copied.parent.mkdir(parents=True, exist_ok=True)
                copied.write_bytes(each.read_bytes())
        files = sorted(each for each in path.rglob("*") if each.is_file())
        # Descriptions are few and chunks are many.
        described = [each for each in files if each.suffix == ".json" or each.name.startswith(".z")]
        chosen = rng.choice(described if described and rng.random() < 0.75 else files)
    else:
        path.write_bytes(seed.read_bytes())
        chosen = path
    chosen.write_bytes(_damaged(chosen, kind, rng))
    return path


def _damaged(path: Path, kind: str, rng: random.Random) -> bytes:
    stored = path.read_bytes()
    if path.suffix == ".json" or path.name.startswith(".z"):
        return _json(stored, rng)
    if path.suffix == ".xml" and rng.random() < 0.8:
        return _xml(stored, rng)
    if kind == "manifest":
        return _csv(stored, rng)
    if path.suffix == ".yaml":
        return _yaml(stored, rng)
    if path.suffix == ".safetensors" and rng.random() < 0.7:
        return _safetensors(stored, rng)
    if path.suffix in (".tif", ".svs") and rng.random() < 0.7:
        return _tags(path, stored, rng)
    return _bytes(stored, rng)


def _bytes(stored: bytes, rng: random.Random) -> bytes:
    """Bits, numbers, parts cut off, out or in."""
    held = bytearray(stored)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not held:
            return b""
        most = len(held) if rng.random() < 0.4 else min(len(held), HEAD_BYTES)
        at = rng.randrange(most)
        how = rng.randrange(6)
        if how == 0:
            held[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            code = rng.choice("<>") + rng.choice("BHIQ")
            value = rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(code))
            held[at : at + struct.calcsize(code)] = struct.pack(code, value)
        elif how == 2:
            del held[at:]
        elif how == 3:
            del held[at : at + rng.choice((1, 7, 100))]
        elif how == 4:
            held[at:at] = rng.randbytes(rng.choice((1, 4, 500)))
        else:
            count = rng.choice((4, 64, 3000))
            held[at : at + count] = bytes([rng.choice((0, 255))]) * count
    return bytes(held)


def _tags(path: Path, stored: bytes, rng: random.Random) -> bytes:
    """Fields of the directory's entries, and numbers in the text of a description."""
    with tifffile.TiffFile(path) as tif:
        order = tif.byteorder
        tags = [
            (tag.offset, tag.valueoffset, tag.dtype, tag.count) for page in tif.pages for tag in page.tags
        ]
        text = next((tag for tag in tif.pages.first.tags if tag.code == 270), None)
        described = None if text is None else (text.valueoffset, text.valuebytecount)
    held = bytearray(stored)
    if described is not None and rng.random() < 0.4:
        start, count = described
        held[start : start + count] = _described(bytes(held[start : start + count]), rng)
        return bytes(held)
    for _ in range(rng.choice((1, 1, 2))):
        entry, value, kind, _ = rng.choice(tags)
        how = rng.randrange(4)
        if how == 0:
            struct.pack_into(order + "H", held, entry + rng.choice((0, 2)), rng.choice(NUMBERS) % (1 << 16))
        elif how == 1:
            struct.pack_into(order + "I", held, entry + 4, rng.choice(NUMBERS))
        elif how == 2:
            struct.pack_into(order + "I", held, entry + 8, rng.choice((*NUMBERS, len(stored) - 1)))
        else:
            code = order + {3: "H", 16: "Q"}.get(int(kind), "I")
            size = struct.calcsize(code)
            if value + size <= len(held):
                struct.pack_into(code, held, value, rng.choice(NUMBERS) % (1 << 8 * size))
    return bytes(held)


def _described(text: bytes, rng: random.Random) -> bytes:
    """A text of the same length with other numbers or names in it."""
    found = list(re.finditer(rb"[0-9.]+|[A-Za-z]{2,}", text))
    if not found:
        return text
    one = rng.choice(found)
    count = one.end() - one.start()
    texts = (
        b"9" * count,
        b"0" * count,
        b"-" + b"1" * (count - 1),
        rng.randbytes(count),
        b"1e" + b"9" * count,
    )
    new = rng.choice(texts)
    return text[: one.start()] + new[:count].ljust(count, b"0") + text[one.end() :]


def _value(rng: random.Random, old: Any) -> Any:
    """What may stand in the place of a value."""
    if isinstance(old, int | float) and not isinstance(old, bool) and rng.random() < 0.5:
        return rng.choice((*HUGE, 0.5, 1e308))
    if isinstance(old, list) and old and rng.random() < 0.5:
        return rng.choice((old * 2, old[:-1], old * 2000, [*old, copy.deepcopy(old)]))
    deep: Any = 0
    for _ in range(rng.choice((10, 400, 3000))):
        deep = [deep]
    many: dict[str, int] = {f"k{number}": number for number in range(3000)}
    return rng.choice(
        (*HUGE, *TEXTS, None, True, False, [], {}, [None], {"a": 1}, deep, many, -0.5, float("inf"))
    )


def _changed(data: Any, rng: random.Random) -> Any:
    """Data with one value changed, taken out, doubled or moved, somewhere."""
    places: list[tuple[Any, Any]] = []

    def walk(held: Any) -> None:
        items = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
        for key, each in items:
            places.append((held, key))
            walk(each)

    walk(data)
    if not places:
        return _value(rng, data)
    held, key = rng.choice(places)
    how = rng.random()
    if how < 0.15:
        del held[key]
    elif how < 0.25 and isinstance(held, dict):
        held[rng.choice(("name", "extra", str(key) * 50, ""))] = held.pop(key)
    elif how < 0.35:
        other, where = rng.choice(places)
        held[key] = copy.deepcopy(other.get(where) if isinstance(other, dict) else None)
    else:
        held[key] = _value(rng, held[key])
    return data


def _json(stored: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return _bytes(stored, rng)
    data = json.loads(stored)
    for _ in range(rng.choice((1, 1, 2))):
        data = _changed(data, rng) if isinstance(data, dict | list) else data
    return _dumped(data)


def _xml(stored: bytes, rng: random.Random) -> bytes:
    """Attribute values, texts, names and whole elements, and what a head may declare."""
    text = stored.decode()
    for _ in range(rng.choice((1, 1, 2))):
        how = rng.randrange(6)
        found = list(re.finditer(r'(?<=")[^"<>]*(?=")|(?<=>)[^<>]+(?=<)|<[^<>]*>', text))
        if not found:
            return stored
        one, other = rng.choice(found), rng.choice(found)
        if how < 3 and not one[0].startswith("<"):
            new = str(rng.choice((*HUGE, *TEXTS, "-1", "inf", "1,2", "1,2,3", "0.5")))
        elif how == 3:
            new = rng.choice(("", one[0] * 2, one[0] * 2000, "<a>" * 3000))
        elif how == 4:
            new = other[0]
        else:
            entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 9}">' for n in range(1, 9))
            declared = rng.choice(
                (f'<!DOCTYPE x [<!ENTITY e0 "x">{entities}]>', '<?xml version="1.0" encoding="x"?>', "&e;")
            )
            return f"{declared}{text}".encode()
        text = text[: one.start()] + new + text[one.end() :]
    return text.encode("utf-8", "surrogatepass")


def _dumped(data: Any) -> bytes:
    try:
        return json.dumps(data).encode()
    except RecursionError:
        return b"[" * 100_000 + b"]" * 100_000


def _yaml(stored: bytes, rng: random.Random) -> bytes:
    """As JSON, which YAML is too, or as lines of text."""
    import yaml

    if rng.random() < 0.5:
        return _dumped(_changed(yaml.safe_load(stored), rng))
    lines = stored.decode().splitlines()
    at = rng.randrange(len(lines))
    refer = ["x", *(f"*a{number}" for number in range(8))]
    laughs = "\n".join(
        f"a{number}: &a{number} [{', '.join([name] * 9)}]" for number, name in enumerate(refer)
    )
    new = rng.choice(
        (
            "", "  " * 30 + "x: 1", "&a [*a]", "a: *missing", "!!python/object:os.system x", "? [a, b] : c",
            "{" * 300, "[" * 3000, "- " * 2000 + "x", laughs, "\t- x", "<<: *a", "2020-99-99: 1", "!!binary x",
            "!!timestamp 99", "key: !!int x", "%YAML 9.9", "--- a\n--- b", "x: " + "9" * 5000, "!!set {a, a}",
            lines[at].replace(":", ": !!float"), lines[at] + lines[at], "1:2:3: 4:5:6",
        )
    )  # fmt: skip
    lines[at : at + rng.choice((0, 1))] = [new]
    return "\n".join(lines).encode()


def _csv(stored: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        return _bytes(stored, rng)
    lines = [line.split(",") for line in stored.decode().splitlines()]
    for _ in range(rng.choice((1, 1, 3))):
        line = rng.choice(lines)
        at = rng.randrange(len(line))
        how = rng.randrange(4)
        if how == 0:
            line[at] = rng.choice(
                (*TEXTS, *map(str, HUGE), '"', "1 2 3 4", "٣ ٤ ٥ ٦", "٠", "²", "-1", "1e-320", "http://x/y")
            )
        elif how == 1:
            line[at : at + 1] = []
        elif how == 2:
            line *= rng.choice((2, 3000))
        else:
            lines.append(list(line))
        lines = [each or [""] for each in lines]
    return "\n".join(",".join(line) for line in lines).encode("utf-8", "surrogateescape")


def _safetensors(stored: bytes, rng: random.Random) -> bytes:
    """The JSON in the header, and what lies as JSON in it."""
    (length,) = struct.unpack_from("<Q", stored)
    header, rest = json.loads(stored[8 : 8 + length]), stored[8 + length :]
    about = header.get("__metadata__", {}).get("state")
    if about is not None and rng.random() < 0.7:
        header["__metadata__"]["state"] = _dumped(_changed(json.loads(about), rng)).decode()
    else:
        header = _changed(header, rng)
    new = _dumped(header)
    if rng.random() < 0.1:
        return struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, 10**8))) + new + rest
    return struct.pack("<Q", len(new)) + new + rest
