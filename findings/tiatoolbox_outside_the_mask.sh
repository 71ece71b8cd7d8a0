#!/usr/bin/env bash
# TIAToolbox 2.1.3: SemanticSegmentor says class 0 wherever it did not look. What lies outside its tissue mask becomes 0 in
# the zarr output, and polygons of class 0 in the output for QuPath. Class 0 of its pretrained fcn_resnet50_unet-bcss is
# "Tumour". Seen, with all defaults, for a white picture of 2,048 x 2,048 px with tissue in one quarter, and a network with
# the classes of that model which says Stroma everywhere:
#   zarr: Tumour 3145728 px, Stroma 1048576 px
#   qupath: Tumour 3141634 px, Stroma 1046529 px
# Who measures areas from either finds three times as much tumour as stroma, where no tumour was predicted. Nothing in the
# default output tells these pixels from predicted ones, and ignore_index=0 would drop predicted tumour too. No weights are
# downloaded. The environment takes 6 GB; TIATOOLBOX_PYTHON may name the Python of one that has 2.1.3 already. This script
# fails when an answer changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/outside.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import numpy as np
import tiatoolbox
import zarr
from PIL import Image
from shapely.geometry import shape
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC

tiatoolbox.logger.setLevel("ERROR")
assert tiatoolbox.__version__ == "2.1.3", tiatoolbox.__version__
published = tiatoolbox.rcParam["pretrained_model_info"]["fcn_resnet50_unet-bcss"]
NAMES = published["architecture"]["kwargs"]["class_dict"]
assert (NAMES[0], NAMES[1]) == ("Tumour", "Stroma"), NAMES


class AllStroma(ModelABC):
    def __init__(self):
        super().__init__()
        self.class_dict = NAMES

    def forward(self, images):
        return images

    @staticmethod
    def infer_batch(model, batch_data, *, device):
        scores = np.zeros((*batch_data.shape[:3], len(NAMES)), np.float32)
        scores[..., 1] = 1
        return scores

    def postproc(self, image):
        return image.argmax(axis=-1)


folder = Path(sys.argv[1])
pixels = np.full((2048, 2048, 3), 255, np.uint8)
pixels[100:900, 100:900] = (200, 80, 160)
slide = folder / "slide.png"
Image.fromarray(pixels).save(slide)


def written(kind):
    full = [{"units": "baseline", "resolution": 1.0}]
    settings = IOSegmentorConfig(
        input_resolutions=full, output_resolutions=full,
        patch_input_shape=(512, 512), patch_output_shape=(512, 512), stride_shape=(512, 512),
    )
    return SemanticSegmentor(AllStroma(), verbose=False).run(
        [slide], patch_mode=False, ioconfig=settings, save_dir=folder / kind, output_type=kind,
        wsireader_kwargs={"mpp": (0.5, 0.5)},
    )[slide]


labels = zarr.open_group(written("zarr"), mode="r")["predictions"][:]
areas = {"zarr": {NAMES[int(each)]: int((labels == each).sum()) for each in np.unique(labels)}, "qupath": {}}
for feature in json.loads(Path(written("qupath")).read_text())["features"]:
    name = feature["properties"]["classification"]["name"]
    areas["qupath"][name] = areas["qupath"].get(name, 0) + round(shape(feature["geometry"]).area)
for kind, found in areas.items():
    print(f"{kind}: " + ", ".join(f"{name} {area} px" for name, area in found.items()))
wanted = {
    "zarr": {"Tumour": 3145728, "Stroma": 1048576},
    "qupath": {"Tumour": 3141634, "Stroma": 1046529},
}
sys.exit(areas != wanted)
PYTHON
python=${TIATOOLBOX_PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet --disable-pip-version-check "tiatoolbox==2.1.3"
fi
"$python" "$folder/outside.py" "$folder" 2> "$folder/log" || { cat "$folder/log" >&2; exit 1; }
