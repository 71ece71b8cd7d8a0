"""Label tiles as zlib streams, from their runs: several times faster than by looking for matches, and as small.

A general deflater hashes its way to matches. In a tile of labels there are only two worth having: with the byte
before (the run goes on) and with the pixel above (the border goes on). Both are known once it is known where the
label changes along a row (*edges*) and where a row differs from the one above (*changes*). Most rows are equal
to the one above, which sixty-four comparisons of words tell of 512 pixels. The rest follows the edges and changes
alone: the choice of matches, their codes, and the checksum.

Source:
    RFC 1950 (zlib, Adler-32) and RFC 1951 (Deflate).
"""

from __future__ import annotations

from typing import cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled
from wsi_deform.mask.huffman import canonical_codes, code_lengths, put_bits, put_code_lengths

ZLIB_LEVEL = 2
"""Of zlib-ng, for what has no long runs. On masks it is faster than levels 1 and 3, and smaller than both."""

_PIXELS_PER_EDGE = 12
"""With shorter runs than this, on average, a general deflater is smaller."""

_PIXELS_PER_WORD = 8
_SHORTEST, _LONGEST = 3, 258  # bytes of a match
_END = 256
_LITERAL_SYMBOLS = 286
_LONGEST_CODE = 15
_ADLER = 65521


def _ladder(first: int, steps: int, per_octave: int) -> list[tuple[int, int]]:
    """Least value and number of extra bits of the codes of match lengths or distances."""
    rungs = []
    for step in range(steps):
        extra = max(0, step // per_octave - 1)
        rungs.append((first, extra))
        first += 1 << extra
    return rungs


_LENGTH_RUNGS = np.array([*_ladder(_SHORTEST, 28, 4), (_LONGEST, 0)])
_DISTANCE_RUNGS = np.array(_ladder(1, 30, 2))
_RUNG_OF_LENGTH = np.searchsorted(_LENGTH_RUNGS[:, 0], np.arange(_LONGEST + 1), side="right") - 1


def deflated_labels(pixels: NDArray[np.uint8]) -> bytes:
    """A zlib stream of the pixels of a label tile; releases the GIL.

    Args:
        pixels: (H, W) uint8, C-contiguous, W a multiple of 8, at most 32,768.

    Returns:
        What every inflater turns back into the bytes of ``pixels``; the same for the same pixels.
    """
    stream = _encoded(pixels, pixels.view(np.uint64))
    return stream.tobytes() if stream.size else deflated(pixels)


def deflated(pixels: NDArray[np.generic]) -> bytes:
    """A zlib stream of any pixels, by a general deflater; releases the GIL."""
    buffer = cast(bytes, pixels)  # any buffer will do; the stubs of imagecodecs know only bytes
    if imagecodecs.ZLIBNG.available:
        return cast(bytes, imagecodecs.zlibng_encode(buffer, level=ZLIB_LEVEL))
    return cast(bytes, imagecodecs.zlib_encode(buffer, level=ZLIB_LEVEL))


@compiled
def _encoded(pixels: NDArray[np.uint8], words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The stream, or nothing where runs are too short."""
    most = pixels.size // _PIXELS_PER_EDGE
    room = most + pixels.shape[1] + 1  # the row that goes over the limit fits
    edges, changes = np.empty(room, np.int64), np.empty((2 * room + pixels.shape[0], 2), np.int64)
    edge_count, change_count = _scan(pixels, words, most, edges, changes)
    if edge_count < 0:
        return np.empty(0, np.uint8)
    labels = pixels.ravel()
    tokens = np.empty(pixels.size // _LONGEST + 3 * (edge_count + 2 * change_count) + 8, np.int64)
    counts = np.zeros(_LITERAL_SYMBOLS, np.int64)
    count = _choose(labels, pixels.shape[1], edges, changes, tokens, counts)
    return _packed(tokens[:count], counts, pixels.shape[1], _adler(labels, edges))


@compiled
def _scan(
    pixels: NDArray[np.uint8], words: NDArray[np.uint64], most: int, edges: Longs, changes: Longs
) -> tuple[int, int]:
    """Find where pixels, counted row by row, differ from the one before and from the one above.

    Args:
        pixels: (H, W).
        words: The same, eight at a time.
        most: More edges than this are not looked for.
        edges: Receives the pixels that differ from the one before, then the number of pixels.
        changes: Receives first and end of the stretches that differ from above, then the number of pixels.

    Returns:
        How many edges and changes; -1 edges where there are too many.
    """
    height, width = pixels.shape
    edge_count, change_count, row_begin = 0, 0, 0
    for row in range(height):
        differs = np.uint64(1 if row == 0 else 0)
        if row > 0:
            for i in range(words.shape[1]):
                differs |= words[row, i] ^ words[row - 1, i]
        if edge_count > most:
            return -1, 0
        above_begin, above_end = row_begin, edge_count
        if row > 0 and pixels[row, 0] != pixels[row - 1, width - 1]:
            edges[edge_count] = row * width
            edge_count += 1
        row_begin = edge_count
        if differs == 0:
            for i in range(above_begin, above_end):
                edges[edge_count] = edges[i] + width
                edge_count += 1
            continue
        before = pixels[row, 0]
        for i in range(words.shape[1]):
            if words[row, i] == np.uint64(before) * np.uint64(0x0101010101010101):
                continue
            for column in range(i * _PIXELS_PER_WORD, (i + 1) * _PIXELS_PER_WORD):
                if pixels[row, column] != before:
                    before = pixels[row, column]
                    edges[edge_count] = row * width + column
                    edge_count += 1
        if row == 0:
            continue
        changed = False
        for i in range(words.shape[1]):
            if not changed and words[row, i] == words[row - 1, i]:
                continue
            for column in range(i * _PIXELS_PER_WORD, (i + 1) * _PIXELS_PER_WORD):
                if (pixels[row, column] != pixels[row - 1, column]) != changed:
                    changed = not changed
                    changes[change_count, 0 if changed else 1] = row * width + column
                    change_count += 0 if changed else 1
        if changed:
            changes[change_count, 1] = (row + 1) * width
            change_count += 1
    edges[edge_count] = pixels.size
    changes[change_count] = pixels.size
    return edge_count, change_count


@compiled
def _choose(
    labels: NDArray[np.uint8], width: int, edges: Longs, changes: Longs, tokens: Longs, counts: Longs
) -> int:
    """Cut the pixels into bytes and matches, at each place what reaches farthest.

    Args:
        labels: (H * W,) the pixels.
        width: W.
        edges: As from `_scan`.
        changes: As from `_scan`.
        tokens: Receives a byte, or 256 + twice the length of a match, odd for one with the pixel above.
        counts: (286,) receives how often each symbol of Deflate comes.

    Returns:
        How many tokens.
    """
    count, at, edge, change = 0, 0, 0, 0
    while at < labels.size:
        while edges[edge] < at:
            edge += 1
        while changes[change, 1] <= at:
            change += 1
        new = at == 0 or edges[edge] == at  # no run goes on here: one may begin, after a byte
        run_end = edges[edge + 1] if edges[edge] == at else edges[edge]
        above = 0
        if at >= width and changes[change, 0] > at:
            above = min(changes[change, 0] - at, _LONGEST)
        run = min(run_end - at, _LONGEST)
        length = run if run >= above else above
        if length < _SHORTEST or (new and run >= above):
            tokens[count] = labels[at]
            counts[labels[at]] += 1
            at += 1
        else:
            tokens[count] = _END + 2 * length + (0 if run >= above else 1)
            counts[_END + 1 + _RUNG_OF_LENGTH[length]] += 1
            at += length
        count += 1
    return count


@compiled
def _adler(labels: NDArray[np.uint8], edges: Longs) -> int:
    """The Adler-32 checksum, run by run."""
    low, high = 1, labels.size % _ADLER  # high is the sum of all lows
    begin = 0
    for i in range(edges.shape[0]):
        end = edges[i]
        if end > begin:
            # A byte at place p is in the lows of all that follow: size - p of them.
            low += labels[begin] * (end - begin)
            places = (end - begin) * (2 * labels.size - begin - end + 1) // 2
            high = (high + labels[begin] * (places % _ADLER)) % _ADLER
        begin = end
        if end == labels.size:
            break
    return (high << 16) | (low % _ADLER)


@compiled
def _packed(tokens: Longs, counts: Longs, width: int, adler: int) -> NDArray[np.uint8]:
    """The zlib stream of the tokens."""
    counts[_END] = 1
    lengths = code_lengths(counts, _LONGEST_CODE)
    codes = canonical_codes(lengths)
    rung = np.searchsorted(_DISTANCE_RUNGS[:, 0], width, side="right") - 1
    distances = np.zeros(
        rung + 1, np.int64
    )  # one bit tells whether a match is with the pixel before or above
    distances[0] = distances[rung] = 1
    extra = width - _DISTANCE_RUNGS[rung, 0]
    out = np.empty(512 + 6 * tokens.size, np.uint8)
    out[0], out[1] = 0x78, 0x01
    used = _LITERAL_SYMBOLS
    while lengths[used - 1] == 0:
        used -= 1
    bits = put_code_lengths(out, (2, 0, 0), lengths[:used], distances)
    for token in tokens:
        if token < _END:
            bits = put_bits(out, bits, codes[token], lengths[token])
            continue
        length = (token - _END) >> 1
        number = _RUNG_OF_LENGTH[length]
        bits = put_bits(out, bits, codes[_END + 1 + number], lengths[_END + 1 + number])
        bits = put_bits(out, bits, length - _LENGTH_RUNGS[number, 0], _LENGTH_RUNGS[number, 1])
        if (token - _END) & 1:
            bits = put_bits(out, bits, 1 | (extra << 1), 1 + _DISTANCE_RUNGS[rung, 1])
        else:
            bits = put_bits(out, bits, 0, 1)
    bits = put_bits(out, bits, codes[_END], lengths[_END])
    bits = put_bits(out, bits, 0, -bits[2] % 8)
    for shift in (24, 16, 8, 0):
        bits = put_bits(out, bits, (adler >> shift) & 255, 8)
    return out[: bits[0]]
