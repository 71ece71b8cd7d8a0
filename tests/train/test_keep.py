from tiny_study import tiny_model

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.model_card import write_model_card
from wsi_deform.model_file import load_model, save_model
from wsi_deform.train.keep import keep_model, kept_epochs


def store(model, run, name):
    save_model(model, run / f"{name}.safetensors", facts={})
    write_model_card(run / f"{name}.safetensors")


def test_the_newest_epochs_are_kept_and_older_ones_removed_with_what_stands_beside_them(tmp_path):
    run = tiny_model(tmp_path, ClassTable.from_names(["background", "gland"]))
    model = load_model(run)
    (run / "epoch-notes.txt").write_text("mine")
    for epoch in (5, 10, 15, 10_000):
        keep_model(run, epoch, keep=2, save=lambda name: store(model, run, name))
    assert kept_epochs(run) == [15, 10_000]
    assert sorted(path.name for path in run.glob("epoch-*")) == [
        "epoch-0015.json", "epoch-0015.md", "epoch-0015.safetensors",
        "epoch-10000.json", "epoch-10000.md", "epoch-10000.safetensors",
        "epoch-notes.txt",
    ]  # fmt: skip
    assert load_model(run / "epoch-0015.safetensors").classes.names == model.classes.names


def test_keeping_none_stores_and_removes_nothing(tmp_path):
    run = tiny_model(tmp_path, ClassTable.from_names(["background", "gland"]))
    model = load_model(run)
    keep_model(run, 1, keep=1, save=lambda name: store(model, run, name))
    keep_model(run, 2, keep=0, save=lambda name: store(model, run, name))
    assert kept_epochs(run) == [1]
