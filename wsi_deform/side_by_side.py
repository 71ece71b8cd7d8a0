"""Several methods on the same slides: train each, segment the held-out slides, evaluate, one page of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.config_sections import Config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.outcome import Watcher as BatchWatcher
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import Study
from wsi_deform.errors import WsiDeformError
from wsi_deform.evaluate.masks import Evaluation, evaluate_masks
from wsi_deform.files import write_json
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest
from wsi_deform.model_blocks import block_network
from wsi_deform.networks.encoders import weight_file
from wsi_deform.report.comparison import compare_methods
from wsi_deform.train.loop import TrainingResult, train
from wsi_deform.train.watcher import Watcher as TrainingWatcher

BLOCKS, DENSE = "blocks", "dense"
PRETRAINED = (BLOCKS, DENSE)
"""Methods that need an encoder with weights."""
ABOUT = {
    "uniform": "Uniform spreads its samples evenly.",
    "joint": "Joint learns where to put as many, the sampler of the paper (Jin et al., ICLR 2022).",
    BLOCKS: "Blocks, which are not of the paper, read all coarsely and some of it closer, with a pretrained encoder.",
    DENSE: "Dense, which is not of the paper, reads all at one level, with a pretrained encoder.",
}
"""Method -> what it is, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """What is compared.

    Attributes:
        configs: Method -> configuration, in the order of the page.
        left_out: Method that cannot be trained on this machine -> why.
    """

    configs: Mapping[str, Config]
    left_out: Mapping[str, str]

    def text(self) -> str:
        """What they are, in a paragraph for those who have not read of them; names that are not known are left out."""
        said = [text for method, text in ABOUT.items() if method in self.configs]
        missing = [f"Without {method}: {reason}" for method, reason in self.left_out.items()]
        return " ".join([*said, *missing])


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """What was found.

    Attributes:
        evaluations: Method -> measures on the held-out slides.
        page: The report.
        finished: False when it was asked to stop; the same call goes on.
    """

    evaluations: Mapping[str, Evaluation]
    page: Path
    finished: bool


class Watcher(Protocol):
    """Who is told how it goes; gives a watcher for each part."""

    def leaves_out(self, method: str, reason: str) -> None:
        """A method cannot be trained here, and the others are compared without it."""
        ...

    def training(self, method: str) -> AbstractContextManager[TrainingWatcher]:
        """A method is about to be trained."""
        ...

    def segmenting(self, method: str) -> AbstractContextManager[BatchWatcher]:
        """A method is about to segment the held-out slides."""
        ...


def methods_here(
    make: Callable[[str], Config], methods: Sequence[str], *, pretrained: bool | None, watcher: Watcher
) -> Methods:
    """The configuration of each method that can be trained on this machine.

    Args:
        make: Gives the configuration of a method.
        methods: Their names; those of ``PRETRAINED`` need their encoder's weights.
        pretrained: Whether these are among them; None: where their weights are found and the settings suit them.
        watcher: Told of what is left out, and why.

    Raises:
        WsiDeformError: A configuration that cannot be, or ``pretrained`` is True and one cannot be trained.
    """
    configs: dict[str, Config] = {}
    left_out: dict[str, str] = {}
    for method in methods:
        if method not in PRETRAINED:
            configs[method] = make(method)
        elif pretrained is not False:
            try:
                configs[method] = _with_encoder(make(method))
            except WsiDeformError as error:
                if pretrained:
                    raise
                left_out[method] = str(error)
                watcher.leaves_out(method, str(error))
    return Methods(configs=configs, left_out=left_out)


def made_once(out: Path, wanted: Mapping[str, Any], make: Callable[[], object]) -> Study:
    """Slides with labels, made unless an earlier call made the same.

    Args:
        out: Gets ``manifest.csv classes.yaml`` from ``make``, and ``demo.json``, the note that they are whole.
        wanted: What decides them, as plain data.
        make: Makes them.

    Raises:
        WsiDeformError: ``out`` holds others.
    """
    note = out / "demo.json"
    if note.is_file():
        found = json.loads(note.read_text(encoding="utf-8"))
        if found != wanted:
            raise WsiDeformError(
                f"demo {out}: holds a demo of {found}. Needed {wanted}, or an empty folder. Choose another --out."
            )
    else:
        make()
        write_json(note, wanted)
    return Study(manifest=out / "manifest.csv", classes=out / "classes.yaml")


def run_side_by_side(
    out: Path,
    study: Study,
    methods: Methods,
    *,
    best: str,
    title: str,
    lead: Sequence[str],
    facts: Mapping[str, Any],
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> SideBySide:
    """Train each method, segment the slides of split "test" with it, evaluate, and write the page.

    Every part skips what an earlier call finished.

    Args:
        out: Gets ``runs/<method>/ masks/<method>/ report.html``.
        study: Slides with labels.
        methods: What is compared.
        best: The method that the page puts forward.
        title: Of the page.
        lead: Paragraphs that say what the slides are.
        facts: What else says how the page was made.
        watcher: Told how it goes.
        stop: Asked during training.

    Raises:
        WsiDeformError: A part failed.
    """
    manifest, classes = read_manifest(study.manifest), read_class_table(study.classes)
    page, configs = out / "report.html", methods.configs
    for method, config in configs.items():
        result = _trained(out / "runs" / method, method, config, manifest, classes, watcher, stop)
        if not result.finished:
            return SideBySide(evaluations={}, page=page, finished=False)
    evaluations: dict[str, Evaluation] = {}
    for method, config in configs.items():
        _segmented(out, study.manifest, method, config, watcher)
        evaluations[method] = evaluate_masks(manifest.of_split("test"), out / "masks" / method, classes)
    compare_methods(
        page,
        title=title,
        lead=lead,
        best=best,
        manifest=manifest,
        classes=classes,
        runs={method: out / "runs" / method for method in configs},
        masks={method: out / "masks" / method for method in configs},
        evaluations=evaluations,
        facts={**facts, **{f"without {method}": reason for method, reason in methods.left_out.items()}},
    )
    return SideBySide(evaluations=evaluations, page=page, finished=True)


def _with_encoder(config: Config) -> Config:
    """The same configuration, if its weights are here and its network is one of blocks."""
    if (weights := config.networks.pretrained) is not None:
        weight_file(weights)
    block_network(config, classes=1)
    return config


def _trained(
    run: Path,
    method: str,
    config: Config,
    manifest: Manifest,
    classes: ClassTable,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> TrainingResult:
    with watcher.training(method) as bars:
        return train(config, manifest, classes, run, watcher=bars, stop=stop)


def _segmented(out: Path, manifest: Path, method: str, config: Config, watcher: Watcher) -> Batch:
    folder = out / "masks" / method
    sources = slide_sources(manifest, out=folder, split="test")
    with watcher.segmenting(method) as bars:
        batch = segment_slides(sources, out / "runs" / method, folder, device=config.device, watcher=bars)
    if failed := batch.of("failed"):
        raise WsiDeformError(f"{method} in {out}: {failed[0].slide_id} failed: {failed[0].reason}")
    return batch
