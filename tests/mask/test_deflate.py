"""Label tiles as zlib streams: every inflater turns them back, and they are no larger than a general deflater's."""

from __future__ import annotations

import zlib

import imagecodecs
import numpy as np
import pytest

from wsi_deform.mask.deflate import deflated, deflated_labels
from wsi_deform.mask.huffman import canonical_codes, code_lengths, put_bits


def blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Labels of the nearest of a few points."""
    points = rng.random((12, 2)) * [width, height]
    rows, columns = np.mgrid[:height, :width]
    squares = (columns[..., None] - points[:, 0]) ** 2 + (rows[..., None] - points[:, 1]) ** 2
    return rng.integers(0, 5, 12)[squares.argmin(axis=-1)]


def drawn_tile(seed: int) -> np.ndarray:
    """A tile of one of six kinds and any size: one label, noise, specks, blocks, slanted stripes, blobs."""
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(1, 90)), 8 * int(rng.integers(1, 80))
    kind = seed % 6
    pixels = np.full((height, width), rng.integers(256))
    if kind == 1:
        pixels = rng.integers(0, 256, (height, width))
    elif kind == 2:
        pixels[rng.random((height, width)) < 0.03] = rng.integers(256)
    elif kind == 3:
        side = int(rng.integers(1, 30))
        small = rng.integers(0, rng.integers(1, 256), (height // side + 1, width // side + 1))
        pixels = np.kron(small, np.ones((side, side), int))[:height, :width]
    elif kind == 4:
        pixels = (np.add.outer(np.arange(height) * rng.random(), np.arange(width) * 0.2) % 256).astype(int)
    elif kind == 5:
        pixels = blobs(rng, height, width)
    return np.ascontiguousarray(pixels, np.uint8)


def test_every_inflater_gives_the_pixels_back():
    for seed in range(300):
        pixels = drawn_tile(seed)
        stream = deflated_labels(pixels)
        assert zlib.decompress(stream) == pixels.tobytes(), f"seed {seed}"  # also checks the checksum
        if seed % 10 < 6:
            assert imagecodecs.zlib_decode(stream) == pixels.tobytes(), f"seed {seed}"
            assert imagecodecs.zlibng_decode(stream) == pixels.tobytes(), f"seed {seed}"
            assert imagecodecs.deflate_decode(stream, out=pixels.size) == pixels.tobytes(), f"seed {seed}"


@pytest.mark.parametrize("width", [8, 16, 504, 512, 520, 4096, 32_768])
def test_matches_with_the_row_above_reach_any_width(width: int):
    rng = np.random.default_rng(width)
    row = np.repeat(rng.integers(0, 9, width // 8), 8).astype(np.uint8)
    pixels = np.stack([row] * 6)
    pixels[3, width // 2 :] += 1
    assert zlib.decompress(deflated_labels(pixels)) == pixels.tobytes()


def test_label_tiles_are_no_larger_than_by_a_general_deflater():
    for seed in range(10):
        pixels = np.ascontiguousarray(blobs(np.random.default_rng(seed), 512, 512), np.uint8)
        assert len(deflated_labels(pixels)) < len(deflated(pixels))


def test_noise_is_left_to_a_general_deflater():
    pixels = np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint8)
    assert deflated_labels(pixels) == deflated(pixels)


def test_a_tile_of_one_label_takes_a_fraction_of_a_kilobyte():
    assert len(deflated_labels(np.full((512, 512), 7, np.uint8))) < 350


def test_no_code_is_longer_than_allowed_and_the_codes_are_complete():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:  # Huffman's code of these counts has 39 bits
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for counts in (fibonacci, [5] * 286, [0, 3, 0, 9, 9, 1]):
        lengths = code_lengths(np.array(counts), 15)
        assert lengths.max() <= 15
        assert ((lengths > 0) == (np.array(counts) > 0)).all()
        assert sum(2.0**-length for length in lengths if length) == 1


def test_frequent_symbols_get_short_codes():
    assert code_lengths(np.array([1, 100, 2, 50]), 15).tolist() == [3, 1, 3, 2]
    assert code_lengths(np.array([0, 4, 0]), 15).tolist() == [0, 1, 0]


def test_convention_codes_are_those_of_the_deflate_specification():
    # The example of RFC 1951, section 3.2.2, with bits turned around: A to H have 010, 011, ..., 1110, 1111.
    codes = canonical_codes(np.array([3, 3, 3, 3, 3, 2, 4, 4]))
    assert codes.tolist() == [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111]


def test_convention_bits_fill_bytes_from_the_lowest_up():
    out = np.zeros(4, np.uint8)
    bits = put_bits(out, (0, 0, 0), 0b1, 1)
    bits = put_bits(out, bits, 0b10110, 5)
    bits = put_bits(out, bits, 0b111, 3)
    assert bits == (1, 0b1, 1)
    assert out[0] == 0b11101101
