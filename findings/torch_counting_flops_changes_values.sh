#!/usr/bin/env bash
# Counting the operations of a network with torch.utils.flop_counter.FlopCounterMode changes what the network computes, where
# it runs under torch.inference_mode: the counter takes an operation without a formula apart in Python, and bilinear and
# bicubic resizing taken apart are rounded otherwise than PyTorch's own kernels. Under torch.no_grad nothing changes.
# Seen with torch 2.13.0 (CPU), 18 channels of 17 x 33 resized to 65 x 63, share of values that differ and by how much at most:
#   no_grad bilinear 0.00 0.0e+00
#   no_grad bicubic 0.00 0.0e+00
#   no_grad nearest 0.00 0.0e+00
#   inference_mode bilinear 0.61 3.7e-06
#   inference_mode bicubic 0.83 7.0e-06
#   inference_mode nearest 0.00 0.0e+00
# A network that resizes between its branches (HRNet, U-Net) and is counted on its first image alone labels a few pixels of
# that image otherwise than when the same image comes second. This script fails when no resizing differs under
# inference_mode any more, or one does under no_grad.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/count.py" <<'PYTHON'
import torch
import torch.nn.functional as functional
from torch.utils.flop_counter import FlopCounterMode

torch.manual_seed(0)
torch.set_num_threads(1)
differs = {}
for guard in (torch.no_grad, torch.inference_mode):
    for mode in ("bilinear", "bicubic", "nearest"):
        more = {} if mode == "nearest" else {"align_corners": False}
        with guard():
            image = torch.randn(1, 18, 17, 33)
            plain = functional.interpolate(image, size=(65, 63), mode=mode, **more)
            with FlopCounterMode(display=False):
                counted = functional.interpolate(image, size=(65, 63), mode=mode, **more)
        share, most = (plain != counted).float().mean().item(), (plain - counted).abs().max().item()
        print(f"{guard.__name__} {mode} {share:.2f} {most:.1e}")
        differs[guard.__name__, mode] = share > 0
wanted = {key: key[0] == "inference_mode" and key[1] != "nearest" for key in differs}
raise SystemExit(0 if differs == wanted else "the answers changed: is the counter harmless now?")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.0
"$folder/venv/bin/python" -W ignore "$folder/count.py"
