import re
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size

FAST = [
    "--config", "joint",
    "--set", "sampling.budget=[12, 24]",
    "--set", "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "--set", "training.threads=1",
]  # fmt: skip
WAIT_S = 300  # of a busy machine
COMMAND = [sys.executable, "-c", "from wsi_deform.cli.main import app; app()"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return draw_study(tmp_path_factory.mktemp("study"), train=3, val=1, test=0, seed=2, size=Size(512, 256))


def invoke(*arguments):
    return CliRunner().invoke(typer_app, [str(each) for each in arguments])


def test_ctrl_c_or_sigterm_keeps_a_checkpoint_and_the_same_command_goes_on(study, tmp_path, forked):
    command = ["train", "--slides", study.manifest, "--out", tmp_path / "run", *FAST]
    command += ["--set", "training.epochs=100000"]
    running = forked("wsi_deform", *command, said=tmp_path / "first")
    deadline = time.monotonic() + WAIT_S
    while not (tmp_path / "run" / "log.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    assert running.wait(WAIT_S) == 130, running.said()
    assert "holds a checkpoint" in running.said()
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    before = (tmp_path / "run" / "log.csv").read_text().splitlines()
    resumed = forked("wsi_deform", *command, said=tmp_path / "second", variables={"TERM": "dumb"})
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        after = (tmp_path / "run" / "log.csv").read_text().splitlines()
        if len(after) > len(before):
            break
        time.sleep(0.02)
    resumed.send_signal(signal.SIGTERM)
    assert resumed.wait(WAIT_S) == 143, resumed.said()
    assert len(after) > len(before)
    assert after[: len(before)] == before


def test_all_problems_of_a_manifest_are_told_before_training(study, tmp_path):
    broken = tmp_path / "manifest.csv"
    rows = study.manifest.read_text().splitlines()
    (tmp_path / "classes.yaml").write_text(study.classes.read_text())
    broken.write_text("\n".join([rows[0], *(row.replace("slides/", "nowhere/") for row in rows[1:])]))
    result = invoke("train", "--slides", broken, "--out", tmp_path / "run", *FAST)
    assert result.exit_code == 2
    assert result.stderr.count("nowhere") >= 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sampling.bugdet=[1, 2]", 'Did you mean "budget"'),
        ("networks.segmentation={name: hrnetv3}", "hrnetv2"),
    ],
)
def test_bad_configuration_is_a_clear_error(study, tmp_path, change, message):
    result = invoke(
        "train", "--slides", study.manifest, "--out", tmp_path / "run", "--config", "joint", "--set", change
    )
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_the_device_is_an_option_and_comes_before_the_configuration(study, tmp_path):
    asked = (
        "train",
        "--slides",
        study.manifest,
        "--out",
        tmp_path / "run",
        *FAST,
        "--set",
        "training.epochs=1",
    )
    refused = invoke(*asked, "--device", "cuda:99")
    assert refused.exit_code == 2
    assert re.search(r'device "cuda:99".*Needed auto, cpu, cuda or mps', refused.stderr)
    assert not (tmp_path / "run").exists()
    result = invoke(*asked, "--set", "device=cuda:99", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "\ndevice: cpu" in (tmp_path / "run" / "config.yaml").read_text()


def test_errors_are_one_message_and_exit_code_2(tmp_path):
    finished = subprocess.run(
        [*COMMAND, "train", "--slides", str(tmp_path / "none.csv")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("wsi-deform: error: ")
    assert "none.csv" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_inspect_shows_levels_resolution_and_tissue(study, tmp_path):
    slide = next((study.manifest.parent / "slides").glob("*.tif"))
    result = invoke("inspect", slide, "--thumbnail", tmp_path / "small.png")
    assert result.exit_code == 0, result.output
    assert "512 x 256" in result.output
    assert "0.5 um per pixel" in result.output
    assert "tissue:" in result.output
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")


def test_manifest_check_and_build(study, tmp_path):
    result = invoke("manifest", "check", study.manifest)
    assert result.exit_code == 0, result.output
    assert "4 slides, no problems" in result.output
    folder = study.manifest.parent
    build = (
        "manifest",
        "build",
        folder / "slides",
        "--masks",
        folder / "labels",
        "--out",
        tmp_path / "m.csv",
    )
    refused = invoke(*build)
    assert refused.exit_code == 2
    assert "--each-slide-a-patient" in refused.stderr
    assert not (tmp_path / "m.csv").exists()
    (tmp_path / "p.csv").write_text("slide,patient\nP001-A.tif,x\nP001-B.tif,x\nP001-C.tif,y\nP002-A.tif,z\n")
    for way, said in (
        (
            ("--patient", r"^P\d+"),
            r"4 slides of 2 patients (by the pattern ^P\d+ in slide ids). Patients dealt",
        ),
        (
            ("--patients", tmp_path / "p.csv"),
            f"4 slides of 3 patients (by {tmp_path / 'p.csv'}). Patients dealt",
        ),
        (
            ("--each-slide-a-patient",),
            "4 slides of 4 patients (each slide is taken for a patient of its own). ",
        ),
    ):
        built = invoke(*build, *way)
        assert built.exit_code == 0, built.output
        assert said in built.output
        assert len((tmp_path / "m.csv").read_text().splitlines()) == 5
    mask = next((folder / "labels").glob("*.tif"))
    wrong = folder / "wrong.csv"
    slides = sorted((folder / "slides").glob("*.tif"))
    wrong.write_text(f"slide,mask,patient,split\n{slides[0]},{slides[1]},p,train\n{slides[1]},{mask},p,val\n")
    failed = invoke("manifest", "check", wrong)
    assert failed.exit_code != 0
