"""Prefix codes and bits, as Deflate wants them: short codes for what comes often, packed from the lowest bit up.

Source:
    RFC 1951, sections 3.1.1 (bits), 3.2.2 (canonical codes) and 3.2.7 (how their lengths are told).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled

Bits = tuple[int, int, int]
"""Where the next whole byte goes, the bits that are waiting to fill one, and how many."""

LENGTH_BITS = 7
"""The longest code for a code length."""

_LENGTH_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15])
_FEW_ZEROS, _MANY_ZEROS = 17, 18  # in place of a length: 3 to 10, and 11 to 138 lengths of 0


@compiled
def put_bits(out: NDArray[np.uint8], bits: Bits, value: int, count: int) -> Bits:
    """Append up to 32 bits to a stream, the lowest first."""
    at, held, waiting = bits
    held |= value << waiting
    waiting += count
    while waiting >= 8:
        out[at] = held & 255
        at += 1
        held >>= 8
        waiting -= 8
    return at, held, waiting


@compiled
def code_lengths(counts: Longs, longest: int) -> Longs:
    """Lengths of Huffman's codes, none longer than allowed.

    Args:
        counts: (n,) how often each symbol comes.
        longest: The longest length allowed; 2^longest is at least n.

    Returns:
        (n,) bits of each symbol's code; 0 for those that do not come. A lone symbol gets one bit.
    """
    lengths = np.zeros(counts.shape[0], np.int64)
    symbols = np.flatnonzero(counts)
    used = symbols.shape[0]
    if used < 2:
        lengths[symbols] = 1
        return lengths
    weights = np.empty(2 * used - 1, np.int64)  # leaves in ascending order, then their joints
    parents = np.empty(2 * used - 1, np.int64)
    depths = np.empty(2 * used - 1, np.int64)
    flattened = counts.copy()
    while True:
        symbols = symbols[np.argsort(flattened[symbols], kind="mergesort")]
        weights[:used] = flattened[symbols]
        leaf, joint = 0, used  # the lightest of either kind that has no parent yet
        for made in range(used, 2 * used - 1):
            weights[made] = 0
            for _ in range(2):
                if leaf < used and (joint == made or weights[leaf] <= weights[joint]):
                    lightest = leaf
                    leaf += 1
                else:
                    lightest = joint
                    joint += 1
                weights[made] += weights[lightest]
                parents[lightest] = made
        depths[2 * used - 2] = 0
        for node in range(2 * used - 3, -1, -1):
            depths[node] = depths[parents[node]] + 1
        if depths[0] <= longest:
            lengths[symbols] = depths[:used]
            return lengths
        flattened = (flattened + 1) // 2  # evens out the counts, and with them the lengths


@compiled
def canonical_codes(lengths: Longs) -> Longs:
    """(n,) the code of each symbol, its bits already turned around for `put_bits`."""
    codes = np.zeros(lengths.shape[0], np.int64)
    code = 0
    for length in range(1, np.max(lengths) + 1):
        for symbol in range(lengths.shape[0]):
            if lengths[symbol] == length:
                for bit in range(length):
                    codes[symbol] |= ((code >> bit) & 1) << (length - 1 - bit)
                code += 1
        code <<= 1
    return codes


@compiled
def put_code_lengths(out: NDArray[np.uint8], bits: Bits, literal: Longs, distance: Longs) -> Bits:
    """Begin a last block with codes of its own: its header and the lengths of both codes.

    Args:
        out: The stream.
        bits: Where to go on.
        literal: (257 to 286,) lengths of the codes of bytes, end and match lengths; the last is not 0.
        distance: (1 to 30,) lengths of the codes of distances; the last is not 0.

    Returns:
        Where to go on.
    """
    lengths = np.concatenate((literal, distance))
    told = np.empty((lengths.shape[0], 3), np.int64)  # symbol, extra value, its bits
    count, at = 0, 0
    while at < lengths.shape[0]:
        zeros = 0
        while zeros < 138 and at + zeros < lengths.shape[0] and lengths[at + zeros] == 0:
            zeros += 1
        if zeros >= 11:
            told[count] = _MANY_ZEROS, zeros - 11, 7
        elif zeros >= 3:
            told[count] = _FEW_ZEROS, zeros - 3, 3
        else:
            told[count] = lengths[at], 0, 0
            zeros = 1
        at += zeros
        count += 1
    told = told[:count]
    own_lengths = code_lengths(np.bincount(told[:, 0], minlength=19), LENGTH_BITS)
    own_codes = canonical_codes(own_lengths)
    stated = 19
    while own_lengths[_LENGTH_ORDER[stated - 1]] == 0:
        stated -= 1
    bits = put_bits(out, bits, 0b101, 3)  # the last block; codes of its own
    bits = put_bits(out, bits, literal.shape[0] - 257, 5)
    bits = put_bits(out, bits, distance.shape[0] - 1, 5)
    bits = put_bits(out, bits, stated - 4, 4)
    for i in range(stated):
        bits = put_bits(out, bits, own_lengths[_LENGTH_ORDER[i]], 3)
    for i in range(count):
        bits = put_bits(out, bits, own_codes[told[i, 0]], own_lengths[told[i, 0]])
        bits = put_bits(out, bits, told[i, 1], told[i, 2])
    return bits
