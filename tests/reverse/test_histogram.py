import numpy as np
import pytest

from wsi_deform.reverse.histogram import add_label_counts


@pytest.mark.parametrize("shape", [(512, 512), (7, 8), (3, 5), (1, 1), (40, 12)])
@pytest.mark.parametrize("labels", [1, 3, 256])
def test_labels_are_counted_as_numpy_counts_them(shape: tuple[int, int], labels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, labels, shape).astype(np.uint8)
    pixels[: shape[0] // 2] = 255
    for each in (pixels, pixels[:, ::-1], pixels.T):
        counts = np.full(256, 5, np.int64)
        add_label_counts(each, counts)
        np.testing.assert_array_equal(counts - 5, np.bincount(each.ravel(), minlength=256))
