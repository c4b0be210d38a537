"""The whole command: what passes is written, what fails or is mistaken is named."""

import os
import shutil

import pytest

from custom_model import NETWORKS
from fewstep.handin import submit
from fewstep.handin.archive import checks
from fewstep.handin.archive.archive import unpack
from fewstep.handin.archive.contents import CHECKPOINT, CONFIG, PROVIDED, collect, module_files
from src.utils import UserError
from tests.handin.student import ROOT


def main(checkpoint, *more, root=ROOT):
    return submit.main(["--ckpt_path", str(checkpoint), *map(str, more)], root=root)


def test_a_student_that_passes_is_packed_and_the_archive_is_whole(
    checkpoint, official, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(checks, "NETWORK", NETWORKS["tiny"])  # the full one would take minutes
    monkeypatch.setattr(checks, "PARAMETERS", {False: 395_971})
    (tmp_path / "two_pages.pdf").write_bytes(b"%PDF-1.4\n")
    more = ("--writeup_pdf", "two_pages.pdf", "--output", "out/hand_in.zip", "--num_samples", 2)
    code = main(checkpoint, "--official", official, *more)
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    assert [line.partition(":")[0] for line in lines if line[0] in "✓✗"] == [
        f"✓ {name}"
        for name in (
            *("files", "size", "provided files", "checkpoint", "config", "model", "weights"),
            *("network", "sampler", "evaluations", "NFEs", "same seed", "other seed"),
            "official sampling.py",
        )
    ]
    assert "✓ network: the challenge's, 395,971 parameters" in lines
    assert f"✓ provided files: 7 as in {official}, byte for byte" in lines
    (model,) = [line for line in lines if line.startswith("✓ model:")]
    assert model.startswith("✓ model: built from custom_model, src alone, by Python 3")
    assert lines[-1].startswith("written: out/hand_in.zip, ")
    assert os.listdir("out") == ["hand_in.zip"]

    names = unpack("out/hand_in.zip", "unpacked")
    packages = ("src", "fewstep", "discriminator")
    code = {name for package in packages for name in module_files(package, ROOT)}
    scripts = {"custom_model.py", *PROVIDED, "train.py"}
    splits = {name for name in collect(ROOT, checkpoint, checkpoint) if name.startswith("data/")}
    others = {"requirements.txt", CHECKPOINT, CONFIG, "writeup.pdf", "data/train_split.txt"}
    assert set(names) == code | scripts | splits | others
    assert (tmp_path / "unpacked" / CHECKPOINT).read_bytes() == checkpoint.read_bytes()


def test_a_failed_check_leaves_an_older_archive_as_it_is(checkpoint, tmp_path, capsys, monkeypatch):
    findings = [checks.Finding("size", True, "small"), checks.Finding("network", False, "tiny")]
    monkeypatch.setattr(submit, "inspect", lambda *arguments: findings)
    output = tmp_path / "submission.zip"
    output.write_text("an older one")
    assert main(checkpoint, "--output", output) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "✓ size: small",
        "✗ network: tiny",
        f"nothing written to {output}: 1 of 2 checks failed; what is there is of an earlier run",
    ]
    assert output.read_text() == "an older one" and os.listdir(tmp_path) == [output.name]


MISTAKES = {
    "--ckpt_path no.pt": "--ckpt_path no.pt: no such file; train first",
    "--ckpt_path alone.pt": "--config_path model_config.json: no such file",
    "--config_path no.json": "--config_path no.json: no such file",
    "--official part": "--official part: lacks src/module.py, sampling.py; name a",
    "--num_samples 1": "--num_samples 1: at least 2",
    "--device tpu": "--device tpu: use",
    "--output part": "--output part: is a folder",
    "--writeup_pdf no.pdf": "--writeup_pdf no.pdf: no such file",
    "--writeup_pdf note.txt": "--writeup_pdf note.txt: not a PDF",
    "--batch_size 3": "unrecognized arguments",
}


def test_mistakes_are_named_before_any_work(checkpoint, official, tmp_path):
    (tmp_path / "note.txt").write_text("no PDF")
    shutil.copytree(official, tmp_path / "part")
    (tmp_path / "part" / "sampling.py").unlink()
    (tmp_path / "part" / "src" / "module.py").unlink()
    shutil.copy(checkpoint, tmp_path / "alone.pt")
    for flags, message in MISTAKES.items():
        with pytest.raises(UserError) as caught:
            main(checkpoint, *flags.split())
        assert message in str(caught.value)
    assert not list(tmp_path.glob(".submit*"))
