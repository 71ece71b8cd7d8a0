"""A walk over the Huffman codes of a JPEG scan: are they all there, and nothing else?

Decoders fill what is missing with gray and go on; they count a warning that their callers do not hear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled

WHOLE, BAD_CODE, CUT_OFF, LEFT_OVER, NO_RESTART = 0, 1, 2, 3, 4
"""All blocks are there; a code that no table has; data end before the last block, or go on after it; no marker."""

CODE_BITS, SHORT_CODES, SHORT_SHIFT = 16, 1024, 6
PADDING_BYTES = 8
"""Zero bytes that some encoders leave behind the last block."""


@compiled
def walk_scan(
    stored: NDArray[np.uint8],
    start: int,
    codes: NDArray[np.int16],
    long_from: Longs,
    tables: Longs,
    groups: int,
    restart: int,
) -> tuple[int, int]:
    """Follow a sequential scan from its first to its last block.

    Args:
        stored: (N,) the file.
        start: Where the data of the scan begin.
        codes: (tables, 1024 + n), ``coefficients << 6 | bits``: how many coefficients of the block, and how many bits
            with those of the value, a code stands for; 0 is no code. The first 1024 by its first 10 bits; longer codes,
            which are few and rare, by 16. In 16 bits all would not fit a processor's fast cache.
        long_from: (tables,), the first 16 bits that are a longer code.
        tables: (blocks, 2), tables of the first and of the other coefficients of each block of a group (MCU).
        groups: Number of groups.
        restart: Groups between restart markers, 0 for none.

    Returns:
        WHOLE or what is wrong, and where the data end.
    """
    end, place = len(stored), start
    window, held = np.uint64(0), 0
    for group in range(groups):
        if restart > 0 and group > 0 and group % restart == 0:
            while place + 1 < end and stored[place] == 0xFF and stored[place + 1] == 0xFF:
                place += 1
            if held >= 8 or place + 1 >= end or stored[place] != 0xFF:
                return LEFT_OVER, place
            if stored[place + 1] != 0xD0 + (group // restart - 1) % 8:
                return NO_RESTART, place
            place += 2
            window, held = np.uint64(0), 0
        for block in range(len(tables)):
            done, table = 0, tables[block, 0]
            while done < 64:
                if held < 32 and place + 4 <= end:
                    first, second = np.uint64(stored[place]), np.uint64(stored[place + 1])
                    third, fourth = np.uint64(stored[place + 2]), np.uint64(stored[place + 3])
                    if first != 255 and second != 255 and third != 255 and fourth != 255:
                        four = (
                            first << np.uint64(24) | second << np.uint64(16) | third << np.uint64(8) | fourth
                        )
                        window = window << np.uint64(32) | four
                        held += 32
                        place += 4
                while held < 32 and place < end:
                    byte = stored[place]
                    if byte == 0xFF:
                        if place + 1 >= end or stored[place + 1] != 0:
                            break  # a marker
                        place += 1
                    place += 1
                    window = window << np.uint64(8) | np.uint64(byte)
                    held += 8
                if held >= CODE_BITS:
                    ahead = window >> np.uint64(held - CODE_BITS)
                else:
                    ahead = window << np.uint64(CODE_BITS - held)
                bits = np.int64(ahead & np.uint64(0xFFFF))
                short = bits < long_from[table]
                code = int(
                    codes[table, bits >> SHORT_SHIFT if short else SHORT_CODES + bits - long_from[table]]
                )
                if code & 63 > held or (code == 0 and held < CODE_BITS):
                    return CUT_OFF, place
                if code == 0:
                    return BAD_CODE, place
                held -= code & 63
                done += code >> 6
                table = tables[block, 1]
    spare = held // 8
    if spare > 0 and window & ((np.uint64(1) << np.uint64(8 * spare)) - np.uint64(1)) != 0:
        return LEFT_OVER, place
    while place < end and stored[place] == 0:
        place += 1
        spare += 1
    if spare > PADDING_BYTES or (place < end and stored[place] != 0xFF):
        return LEFT_OVER, place
    return WHOLE, place
