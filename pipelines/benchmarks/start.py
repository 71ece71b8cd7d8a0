"""Start: what `segment` of one small slide costs as a whole process, beside an earlier commit, and what imports cost.

Both commits segment the same slide with a model that each of them makes for itself, of the same settings; the runs of
all cases are interleaved. Every run is a process of its own, start and end included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from pipelines.compare.commits import worktree
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size

ROOT = Path(__file__).parents[2]
EARLIER = "c67a9de"
SLIDE = Size(640, 160)
NETWORKS = {
    "HRNetV2-W18": "{name: hrnetv2, width: 18, stem_stride: 1}",
    "MONAI's DynUNet": "{name: 'monai:DynUNet'}",
}
IMPORTS = {
    "import torch": "import torch",
    "import the command line": "import wsi_deform.cli.main",
    "import what segment needs": "import wsi_deform.distribute.batch",
}
# Run by the package of either commit.
MAKE_MODEL = """
import sys
from pathlib import Path
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.model import Model
try:
    from wsi_deform.model_file import save_model
except ImportError:
    from wsi_deform.model import save_model  # the earlier commit's place

network, classes, model = sys.argv[1:]
config = read_config(changes=["sampling.budget=[16, 64]", f"networks.segmentation={network}"])
save_model(Model(config=config, classes=read_class_table(Path(classes)), mpp=0.5), Path(model), facts={})
"""


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="wsi-deform-start-") as name:
        folder = Path(name)
        study = draw_study(folder / "study", train=0, val=0, test=1, size=SLIDE, mpp=0.5)
        with worktree(ROOT, EARLIER, folder / "earlier") as earlier, Pool(settings.threads) as pool:
            trees = {"": ROOT} if settings.quick else {"": ROOT, f", {EARLIER}": earlier}
            cases = [
                Case(
                    name=f"segment, {network}{commit}",
                    factory="start:segment",
                    params={"network": network, "tree": str(tree), "study": str(study.manifest.parent)},
                )
                for network in NETWORKS
                for commit, tree in trees.items()
            ]
            cases += [Case(name=what, factory="start:imports", params={"what": what}) for what in IMPORTS]
            chosen = [case for case in cases if not settings.only or case.name in settings.only]
            rows = pool.measure(chosen, runs=settings.runs)
    return [{name: value for name, value in row.items() if name not in ("tree", "study")} for row in rows]


def segment(*, network: str, tree: str, study: str) -> Work:
    """The whole of `segment` with the package of a checkout."""
    folder = Path(tempfile.mkdtemp(dir=study))
    model = folder / "run" / "best.safetensors"
    _python(tree, "-c", MAKE_MODEL, NETWORKS[network], str(Path(study) / "classes.yaml"), str(model))
    slide = next((Path(study) / "slides").iterdir())
    command = ("-m", "wsi_deform", "segment", "--slides", str(slide), "--model", str(model.parent))

    def once(_: int) -> Facts:
        _python(tree, *command, "--out", str(folder / "out"), "--device", "cpu", "--overwrite")
        return {"masks": len(list((folder / "out" / "masks").iterdir()))}

    once(-1)  # compiles the kernels of this checkout
    return Work(run=once)


def imports(*, what: str) -> Work:
    """A process that imports something and ends."""

    def once(_: int) -> Facts:
        _python(str(ROOT), "-c", IMPORTS[what])
        return {}

    once(-1)
    return Work(run=once)


def _python(tree: str, *arguments: str) -> None:
    """Run Python on the package of a checkout, whose compiled files are kept as in an installed one."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**environment, "PYTHONPATH": tree},
        check=True,
        stdout=subprocess.DEVNULL,
    )
