"""A model whose networks another runtime computes: the same labels, counts and files, and who is told of it."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import tifffile
import torch
from blocks_study import block_run
from fake_runtime import put_fake
from tiny_study import MPP, tiny_study
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.cli.main import typer_app
from wsi_deform.config import parse_config
from wsi_deform.cover import budgets_of
from wsi_deform.data.study import open_labelled
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.models import model_sha256
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.plan import planned_slides
from wsi_deform.distribute.records import newest_record
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import ManifestError, ModelError
from wsi_deform.flops import NetworkFlops
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.model_file import find_model, load_model, save_model
from wsi_deform.networks.memory import forward_bytes
from wsi_deform.networks.stand_in import has_stand_in, put_in, take_out
from wsi_deform.runtime import choice, quantise
from wsi_deform.runtime.choice import Asked, Runtime
from wsi_deform.runtime.openvino_engine import quiet_openvino
from wsi_deform.runtime.parts import parts_of
from wsi_deform.runtime.quantised import FACTS, FORMAT, checksums, quantised_folder, read_quantised
from wsi_deform.runtime.use import elsewhere, use_runtime
from wsi_deform.segment import segment_slide
from wsi_deform.slide.open import open_slide

OPENVINO = Runtime(name="openvino")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn slides of 640 x 160 px, one of them for validation, and an untrained model."""
    folder = tmp_path_factory.mktemp("study")
    small_run(folder / "run", read_class_table(tiny_study(folder).classes))
    return folder


def small_run(run: Path, classes: ClassTable) -> Path:
    """A run folder with an untrained model that is quick to count; it predicts several classes."""
    settings = {
        "sampling": {"budget": [12, 48]},
        "networks": {"segmentation": {"name": "efficientnet-lite0", "width": 8}},
    }
    torch.manual_seed(0)
    model = Model(config=parse_config(settings, source="small"), classes=classes, mpp=MPP)
    for name, parameter in model.segmentation.named_parameters():
        if parameter.ndim > 1 and not name.startswith("backbone"):
            torch.nn.init.normal_(parameter, std=0.3)
    save_model(model, run / "best.safetensors", facts={"epoch": 0})
    return run


def using(run: Path, runtime: Runtime = OPENVINO) -> Model:
    path = find_model(run).absolute()
    return use_runtime(load_model(path), runtime, path=path, model_sha256=model_sha256(path))


def labels_of(model: Model, slide: Path) -> torch.Tensor:
    found = segment_slide(open_slide(slide), model)
    return torch.cat([torch.from_numpy(each.labels) for each in found.fields])


def same_share(labels: torch.Tensor, others: torch.Tensor) -> float:
    return float((labels == others).double().mean())


def slides_of(study: Path) -> list[Path]:
    return sorted((study / "slides").iterdir())


def test_labels_and_operations_are_those_of_torch(study, monkeypatch, tmp_path):
    fake = put_fake(monkeypatch, tmp_path)
    slide, own, other = slides_of(study)[0], load_model(study / "run"), using(study / "run")
    assert (own.computed_by, other.computed_by) == ("torch float32", "openvino float32")
    with NetworkFlops(*own.networks) as counted:
        wanted = labels_of(own, slide)
    with NetworkFlops(*other.networks) as also:
        found = labels_of(other, slide)
    assert len(wanted.unique()) > 1
    assert same_share(found, wanted) >= 0.99
    assert fake.passes > 4  # two parts are compared at two sizes each
    assert also.total == counted.total > 0
    size = Size(64, 32)
    assert forward_bytes(other.segmentation, size, channels=4) == (
        forward_bytes(own.segmentation, size, channels=4)
    )


def test_a_network_of_another_size_is_counted_by_its_area():
    network = torch.nn.Conv2d(3, 2, 1)
    put_in(network, lambda image: torch.zeros(len(image), 2, *image.shape[2:]))
    with NetworkFlops(network) as counted:
        network(torch.zeros(2, 3, 4, 5))
        network(torch.zeros(1, 3, 8, 5))
        network(torch.zeros(1, 3, 300, 700))
    # 2 outputs of 3 products and sums each.
    assert counted.total == 2 * 6 * (2 * 20 + 40 + 300 * 700)
    take_out(network)
    assert not has_stand_in(network)


def test_a_network_is_written_once_and_again_where_its_file_is_damaged(study, monkeypatch, tmp_path):
    fake = put_fake(monkeypatch, tmp_path)
    using(study / "run")
    assert fake.written_parts == 2
    using(study / "run")
    assert fake.written_parts == 2
    for file in tmp_path.rglob("*.fake"):
        file.write_text("0" * 64)
    found = using(study / "run")
    assert fake.written_parts == 4
    # It travels without what is compiled, and is compiled where it arrives.
    stand_in = elsewhere(found.segmentation)
    assert stand_in is not None
    assert pickle.loads(pickle.dumps(stand_in))._engine is None
    assert elsewhere(copy.deepcopy(found).segmentation).path == stand_in.path


def test_a_cache_that_cannot_be_written_costs_time_alone(study, monkeypatch, tmp_path, caplog):
    fake = put_fake(monkeypatch, tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "file"))
    found = using(study / "run")
    assert fake.written_parts == 2
    assert "is prepared anew each time" in caplog.text
    assert len(labels_of(found, slides_of(study)[0])) > 0


def test_a_runtime_that_computes_something_else_is_refused(study, monkeypatch, tmp_path):
    put_fake(monkeypatch, tmp_path, factor=1.001)
    with pytest.raises(
        ModelError, match=r"runtime openvino: computes something else than PyTorch for the network"
    ):
        using(study / "run")
    assert [*tmp_path.rglob("*.fake")] == []


@pytest.mark.parametrize(("label_px", "part"), [(2, "encoder_from_2"), (4, "encoder"), (8, "encoder")])
def test_the_encoder_of_blocks_is_computed_elsewhere_too(study, monkeypatch, tmp_path, label_px, part):
    fake = put_fake(monkeypatch, tmp_path / "cache")
    changes = (f"blocks.label_px={label_px}",)
    run = block_run(tmp_path / "run", *changes, classes=read_class_table(study / "classes.yaml"))
    assert list(parts_of(load_model(run))) == [part]
    slide = slides_of(study)[0]
    other = using(run)
    assert fake.written_parts == 1
    assert has_stand_in(other.blocks.backbone)
    with NetworkFlops(*other.networks) as counted:
        found = labels_of(other, slide)
    with NetworkFlops(*(own := load_model(run)).networks) as also:
        wanted = labels_of(own, slide)
    assert same_share(found, wanted) >= 0.99
    assert counted.total == pytest.approx(also.total, rel=0.05)


# Whole commands


def run_batch(study: Path, out: Path, **asked: str) -> Batch:
    sources = slide_sources(study / "slides", out=out)[:1]
    return segment_slides(sources, study / "run", out, device="cpu", runtime=Asked(**asked))


def test_masks_say_what_computed_them_and_are_done_again_by_another(study, monkeypatch, tmp_path):
    put_fake(monkeypatch, tmp_path / "cache")
    out = tmp_path / "out"
    folder = MaskFolder(out)
    (first,) = run_batch(study, out).outcomes
    assert first.state.runtime == "torch float32"
    (again,) = run_batch(study, out, name="openvino").outcomes
    assert again.reason.startswith(
        "done again: another runtime (its networks were computed by torch float32)"
    )
    state = Ledger(folder).read(again.slide_id)
    assert state.runtime == "openvino float32"
    assert state.flops == first.state.flops
    with tifffile.TiffFile(folder.mask(again.slide_id)) as mask:
        assert '<M K="networks computed by">openvino float32</M>' in mask.ome_metadata
    record, _ = newest_record(folder)
    assert record is not None
    assert "openvino float32" in json.dumps(record.data)
    # Who leaves the choice to the program takes what lies there; who asks for torch does not.
    assert [each.status for each in run_batch(study, out).outcomes] == ["skipped"]
    sources = slide_sources(study / "slides", out=out)[:1]
    plans = [
        planned_slides(sources, study / "run", out, device="cpu", runtime=asked)[0].action
        for asked in (Asked(), Asked(name="openvino"), Asked(name="torch"))
    ]
    assert plans == ["skip", "skip", "segment"]


def test_the_command_refuses_what_is_not_there(study, monkeypatch, tmp_path):
    for name in ("openvino", "onnx"):
        monkeypatch.setitem(choice.EXTRAS, name, ("no_such_module_here",))
    arguments = [
        "segment",
        "--model",
        str(study / "run"),
        str(slides_of(study)[0]),
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(typer_app, [*arguments, "--runtime", "openvino"])
    assert done.exit_code == 2
    assert 'pip install "wsi-deform[openvino]"' in done.output
    done = CliRunner().invoke(typer_app, [*arguments, "--precision", "int8", "--runtime", "torch"])
    assert done.exit_code == 2
    assert "needed --runtime openvino" in done.output
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(quantise.importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(
        typer_app, ["quantise", str(study / "run"), "--slides", str(study / "manifest.csv")]
    )
    assert done.exit_code == 2
    assert 'pip install "wsi-deform[quantise]"' in done.output


# int8


def stored(run: Path, **changes: object) -> Path:
    """A folder as ``quantise`` leaves it, with a network that nobody runs."""
    path = find_model(run).absolute()
    folder = quantised_folder(path)
    folder.mkdir(exist_ok=True)
    (folder / "segmentation.xml").write_text("<net/>")
    (folder / "segmentation.bin").write_bytes(b"1")
    about = {
        "format": FORMAT,
        "model_sha256": model_sha256(path),
        "networks": {"segmentation": "segmentation.xml"},
        "files": checksums(folder),
        "loss_points": 0.25,
    }
    (folder / FACTS).write_text(json.dumps(about | changes))
    return path


def test_quantised_networks_belong_to_one_model_and_are_whole(study, tmp_path):
    run = small_run(tmp_path / "run", read_class_table(study / "classes.yaml"))
    path = find_model(run).absolute()
    sha256 = model_sha256(path)
    with pytest.raises(
        ModelError,
        match=r"has no quantised networks \(best\.int8 beside it\)\. Make them: wsi-deform quantise",
    ):
        read_quantised(path, sha256)
    found = read_quantised(stored(run), sha256)
    assert found.files == {"segmentation": path.with_name("best.int8") / "segmentation.xml"}
    assert found.cost == "0.25 points of mIoU less on the validation split"
    assert read_quantised(stored(run, loss_points=-0.5), sha256).cost.startswith("0.50 points of mIoU more")
    assert read_quantised(stored(run, loss_points=None), sha256).cost == "what it costs was not measured"
    with pytest.raises(ModelError, match="made of another model"):
        read_quantised(path, "another")
    with pytest.raises(ModelError, match='format "2"'):
        read_quantised(stored(run, format="2"), sha256)
    with pytest.raises(ModelError, match="damaged"):
        read_quantised(stored(run, networks={"segmentation": "../other.xml"}), sha256)
    folder = quantised_folder(stored(run))
    (folder / "segmentation.bin").write_bytes(b"2")
    with pytest.raises(ModelError, match="damaged, its files have other checksums"):
        read_quantised(path, sha256)
    (folder / FACTS).write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        read_quantised(path, sha256)


def test_networks_that_were_quantised_again_meanwhile_are_refused(study, monkeypatch, tmp_path):
    put_fake(monkeypatch, tmp_path / "cache")
    run = small_run(tmp_path / "run", read_class_table(study / "classes.yaml"))
    stored(run)
    with pytest.raises(ModelError, match="quantised again meanwhile"):
        using(run, Runtime(name="openvino", precision="int8", digest="earlier"))


def test_a_loss_above_half_a_point_is_refused_unasked():
    path = Path("best.safetensors")
    for loss in (-3.0, 0.0, 0.5):
        quantise.refuse_loss(loss, source=path, allow_loss=False)
    for loss, said in ((0.51, "int8 costs 0.51 points"), (None, "cannot be measured")):
        with pytest.raises(ModelError, match=rf"{said}.*Needed at most 0\.5 points"):
            quantise.refuse_loss(loss, source=path, allow_loss=False)
        quantise.refuse_loss(loss, source=path, allow_loss=True)


def test_fields_are_looked_at_and_the_cost_is_measured(study):
    model = load_model(study / "run")
    slides = [open_labelled(row, model.classes) for row in read_manifest(study / "manifest.csv").rows]
    count = sum(len(budgets_of(slide, model)) for slide, _ in slides)
    seen, looked = quantise.calibration_images(model, model.segmentation, slides, fields=64, seed=0)
    assert len(seen) == looked == count
    assert {(len(each), each.shape[1]) for each in seen} == {(1, 4)}
    assert quantise.calibration_images(model, model.segmentation, slides, fields=1, seed=0)[1] == 1
    own = type(model.segmentation).forward

    def alike(image: torch.Tensor) -> torch.Tensor:
        return own(model.segmentation, image)

    same = quantise.measured_cost(model, model.segmentation, alike, slides[:1])
    assert same["miou_float32"] == same["miou_int8"] > 0
    assert (same["loss_points"], same["validation_slides"]) == (0.0, 1)

    def one_class(image: torch.Tensor) -> torch.Tensor:
        return (
            torch.nn.functional.one_hot(torch.full((len(image), *image.shape[2:]), 4), 5)
            .movedim(3, 1)
            .float()
        )

    other = quantise.measured_cost(model, model.segmentation, one_class, slides[:1])
    assert other["loss_points"] == round(100 * (other["miou_float32"] - other["miou_int8"]), 4) != 0
    assert not has_stand_in(model.segmentation)
    assert quantise.measured_cost(model, model.segmentation, alike, [])["loss_points"] is None


def test_a_manifest_without_training_slides_is_refused(study, monkeypatch, tmp_path):
    monkeypatch.setattr(quantise, "require_nncf", lambda: None)
    text = (study / "manifest.csv").read_text().replace(",train", ",test")
    (study / "tested.csv").write_text(text)
    with pytest.raises(ManifestError, match='no slide of split "train"'):
        quantise.quantise(study / "run", read_manifest(study / "tested.csv"))


# With what is installed by hand


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_float32_agrees_with_torch(study, tmp_path, monkeypatch, name):
    if lacking := choice.missing(name):
        pytest.skip(f"{', '.join(lacking)} not installed: pip install wsi-deform[{name}]")
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path))
    own, other = load_model(study / "run"), using(study / "run", Runtime(name=name))
    wanted, found = ([labels_of(model, slide) for slide in slides_of(study)] for model in (own, other))
    same = (torch.cat(wanted) == torch.cat(found)).double().mean()
    assert same >= 0.9999


def test_int8_is_stored_measured_and_used(study, tmp_path, monkeypatch):
    pytest.importorskip("nncf", reason="nncf is not installed: pip install wsi-deform[quantise]")
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    run = small_run(tmp_path / "run", read_class_table(study / "classes.yaml"))
    quantised = quantise.quantise(run, read_manifest(study / "manifest.csv"), fields=4, allow_loss=True)
    assert [each.name for each in sorted(quantised.folder.iterdir())] == [
        FACTS,
        "segmentation.bin",
        "segmentation.xml",
    ]
    # What is seen first and said last is not rounded.
    network = quiet_openvino().Core().read_model(str(quantised.files["segmentation"]))
    convolutions = [each for each in network.get_ordered_ops() if each.get_type_name() == "Convolution"]
    rounded = [
        each.input(0).get_source_output().get_node().get_type_name() == "FakeQuantize"
        for each in convolutions
    ]
    assert len(rounded) > 2
    assert rounded[1:-1].count(True) > 0
    assert not rounded[0]
    assert not rounded[-1]
    sources = slide_sources(study / "slides", out=tmp_path / "out")[:1]
    batch = segment_slides(sources, run, tmp_path / "out", device="cpu", runtime=Asked(precision="int8"))
    (outcome,) = batch.outcomes
    assert outcome.state.runtime == f"openvino int8 ({quantised.cost})"
