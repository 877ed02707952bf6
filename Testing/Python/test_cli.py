"""The command line: what it writes, what it says, and how it exits."""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from BrainGenLib import __version__, spaces
from BrainGenLib.cli import app, console
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Failure, WorkerProcess

MAIN = [sys.executable, "-c", "from BrainGenLib.cli import app; app()"]


class SharedWorker(WorkerProcess):
    """A worker for all tests of this file: most of the time of a short command goes into starting one."""

    def stop(self, grace=5.0):
        pass


@pytest.fixture(scope="module")
def shared_worker(tiny_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINGEN_BUNDLES", str(tiny_folder))
        worker = SharedWorker(threads=1)
    yield worker
    WorkerProcess.stop(worker)


@pytest.fixture
def braingen(tiny_bundles, shared_worker, monkeypatch):
    """Runs a command in this process; returns its exit code, its stdout and its stderr in one line."""
    monkeypatch.setattr(console, "WorkerProcess", lambda **_: shared_worker)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, " ".join(result.stderr.split())

    return run


@pytest.fixture
def segmentation(tmp_path):
    labels = np.zeros((48, 40, 32), np.uint16)
    labels[8:40, 8:32, 8:24] = 41
    labels[8:24, 8:32, 8:24] = 2
    path = tmp_path / "labels.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.diag([1.5, 1.5, 1.5, 1])), path)
    return path


class StubWorker:
    """Fails every job as asked, without a process."""

    failure: Failure
    alive = True

    def __init__(self, **_):
        pass

    def submit(self, job):
        job.fail(self.failure)

    def stop(self, grace):
        pass


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = "import sys, BrainGenLib.cli; print({'torch', 'monai', 'SimpleITK', 'scipy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_generate_writes_cases_that_replay_makes_again(braingen, tmp_path):
    out = tmp_path / "out"
    arguments = ["--pathology", "wmh=0.1", "--side", "wmh=left", "--anatomy", "ventricles=25", "--steps", 2]
    arguments += ["--anatomy", "age=70", "--anatomy", "sex=male"]
    arguments += ["--contrast", "T1ce", "--seed", 7, "--count", 2, "--out", out, "--json"]
    code, stdout, _ = braingen("generate", *arguments)
    assert code == 0
    lines = [json.loads(line) for line in stdout.splitlines()]
    results = [line["result"] for line in lines if "result" in line]
    assert [(result["subject"], result["seed"]) for result in results] == [
        (str(out / "sub-0001"), 7),
        (str(out / "sub-0002"), 8),
    ]
    assert {line["event"]["stage"] for line in lines if "event" in line} >= {"loading", "labels", "rendering T1ce"}
    anat = out / "sub-0001" / "anat"
    assert nib.load(anat / "sub-0001_ce-gadolinium_T1w.nii.gz").shape == spaces.GRID_1MM.shape
    described = json.loads((anat / "sub-0001_dseg.json").read_text(encoding="utf-8"))["BrainGen"]
    request = described["provenance"]["request"]
    assert request["locations"] == {"wmh": {"side": "left", "lobe": None}}
    assert request["anatomy"] == {"ventricles": 25, "age": 70, "sex": 1}
    person = described["measurements"]["person"]
    assert (person["age"], person["sex"], set(person["percentiles"])) == (70, 1, {"ventricles", "brain"})
    head, row, _ = (line.split("\t") for line in (out / "participants.tsv").read_text("utf-8").splitlines())
    assert [row[head.index(name)] for name in ("age", "sex")] == ["70", "M"]

    assert braingen("replay", out / "sub-0002")[:2] == (0, "Identical.\n")


def test_replay_tells_what_differs_and_asks_for_files(braingen, tmp_path, segmentation):
    out = tmp_path / "out"
    assert braingen("render", segmentation, "--out", out, "--seed", 1)[0] == 0
    subject = out / "sub-0001"
    assert "give it with --input" in braingen("replay", subject)[2]
    assert braingen("replay", subject, "--input", segmentation)[0] == 0
    sidecar = subject / "anat" / "sub-0001_dseg.json"
    changed = json.loads(sidecar.read_text(encoding="utf-8"))
    changed["BrainGen"]["provenance"]["arrays"]["T1w"] = "0"
    changed["BrainGen"]["provenance"]["software"]["torch"] = "1.0"
    sidecar.write_text(json.dumps(changed))
    code, stdout, _ = braingen("replay", subject, "--input", segmentation, "--json")
    assert code == 1
    answer = json.loads(stdout.splitlines()[-1])
    assert answer["identical"] is False
    assert answer["differences"][0] == "T1w differs"
    assert "'torch': '1.0'" in answer["differences"][1]


def test_render_adds_to_the_dataset_in_the_grid_of_the_segmentation(braingen, tmp_path, segmentation):
    out = tmp_path / "out"
    for number in (1, 2):
        code, stdout, _ = braingen("render", segmentation, "--contrast", "FLAIR", "--out", out)
        assert (code, stdout) == (0, f"{out / f'sub-000{number}'}\n")
    image = nib.load(out / "sub-0002" / "anat" / "sub-0002_FLAIR.nii.gz")
    assert image.shape == (48, 40, 32)
    assert np.allclose(image.affine, nib.load(segmentation).affine)
    assert "sub-0002" in (out / "participants.tsv").read_text(encoding="utf-8")


def test_segment_writes_labels_mask_and_volumes_once(braingen, tmp_path):
    scan = tmp_path / "Patient A.nii"
    brain, _ = spaces.template()
    nib.save(nib.Nifti1Image(brain, spaces.GRID_2MM.affine), scan)
    code, stdout, _ = braingen("segment", scan, "--out", tmp_path / "out")
    assert code == 0
    assert [line.rpartition("/")[2] for line in stdout.splitlines()] == [
        "Patient A_dseg.nii.gz",
        "Patient A_dseg.json",
        "Patient A_desc-brain_mask.nii.gz",
        "Patient A_volumes.tsv",
        "Patient A_space-MNI152NLin2009aSym_dseg.nii.gz",
    ]
    assert nib.load(tmp_path / "out" / "Patient A_dseg.nii.gz").shape == brain.shape
    code, _, stderr = braingen("segment", scan, "--out", tmp_path / "out")
    assert code == 2
    assert "exists already" in stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--contrast", "CT"], "it knows: T1w, FLAIR, T1ce"),
        (["--contrast", "FLAIRE"], "Did you mean FLAIR?"),
        (["--pathology", "whm=0.1"], "Did you mean wmh?"),
        (
            ["--pathology", "wmh=0,3"],
            "'0,3' is not a number. Write it with a point and without a unit, e.g. wmh=0.3.",
        ),
        (["--pathology", "wmh=14mL"], "'14mL' is not a number"),
        (["--pathology", "wmh=nan"], "'nan' is not a number"),
        (["--anatomy", "ventricles=+30"], "give the value itself, not by how much it changes"),
        (["--pathology", "plague=1"], "it knows: wmh, ms, tumour, oedema, enhancing, stroke"),
        (["--pathology", "wmh=7"], "outside the range"),
        (["--pathology", "wmh=much"], "is not a number"),
        (["--pathology", "wmh"], "write NAME=VALUE"),
        (["--pathology", "wmh=0.1", "--pathology", "wmh=0.2"], "each name once"),
        (["--lobe", "wmh=frontal"], "no load"),
        (["--pathology", "tumour=0.1", "--side", "tumour=left"], "cannot place 'tumour'"),
        (["--pathology", "wmh=0.1", "--side", "wmh=top"], "'left' or 'right'"),
        (["--seed", "-1"], "greater than or equal to 0"),
        (["--bundle", "nothing"], "installed are: brain-ldm, brainspade3d, segmenter"),
        (["--style", "nothing.nii"], "There is no file nothing.nii"),
    ],
)
def test_bad_requests_are_refused_at_once_and_leave_nothing(braingen, tmp_path, arguments, says):
    code, stdout, stderr = braingen("generate", "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert stdout == ""
    assert says in stderr
    assert not (tmp_path / "out").exists()


def test_bad_files_are_refused_and_leave_nothing(braingen, tmp_path):
    scan = tmp_path / "scan.nii"
    scan.write_text("This is not an image.")
    for command in (["segment", scan], ["render", scan]):
        code, stdout, stderr = braingen(*command, "--out", tmp_path / "out")
        assert (code, stdout) == (2, "")
        assert "scan.nii is not a NIfTI file" in stderr
        assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_used_is_refused(braingen, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    code, _, stderr = braingen("generate", "--out", tmp_path / "photos")
    assert code == 2
    assert "holds other files" in stderr
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


@pytest.mark.parametrize(("kind", "code"), [("bad_input", 2), ("cancelled", 3), ("out_of_memory", 4), ("crashed", 1)])
def test_every_failure_has_its_exit_code_and_its_sentence(braingen, tmp_path, monkeypatch, kind, code):
    monkeypatch.setattr(console, "WorkerProcess", StubWorker)
    StubWorker.failure = Failure(code=kind, message="It went wrong.", advice="Try this.")
    got, _, stderr = braingen("generate", "--out", tmp_path / "out")
    assert got == code
    assert "Error: It went wrong. Try this." in stderr
    got, stdout, _ = braingen("generate", "--out", tmp_path / "out", "--json")
    assert got == code
    assert json.loads(stdout)["error"]["message"] == "It went wrong."
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_command_that_is_stopped_leaves_nothing(tiny_bundles, tmp_path, segmentation, name):
    command = [*MAIN, "render", str(segmentation), "--out", str(tmp_path / "out"), "--json"]
    (tmp_path / "temporary").mkdir()
    # Programs that run in the background, or by nohup, are started deaf to some.
    number = getattr(signal, name)
    heard = signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    signal.signal(number, heard)
    assert process.stdout is not None
    process.stdout.readline()
    (worker,) = psutil.Process(process.pid).children()
    os.kill(process.pid, number)
    *_, last = process.stdout.read().splitlines()
    assert json.loads(last)["error"]["code"] == "cancelled"
    assert process.wait(30) == 3
    assert not worker.is_running()
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "temporary").glob("braingen-*")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_result_that_comes_after_ctrl_c_is_not_written(braingen, tmp_path, monkeypatch):
    class LateWorker(StubWorker):
        """Is done while it is asked to stop."""

        def submit(self, job):
            self.job = job

        @property
        def alive(self):
            if not self.job.cancel_requested:
                os.kill(os.getpid(), signal.SIGTERM)
            (self.job.folder / "result").mkdir(exist_ok=True)
            return True

    monkeypatch.setattr(console, "WorkerProcess", LateWorker)
    code, stdout, stderr = braingen("generate", "--out", tmp_path / "out")
    assert (code, stdout) == (3, "")
    assert "Cancelled." in stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_command_that_is_stopped_on_a_full_disk_was_cancelled(braingen, tmp_path, monkeypatch):
    class Stopped(StubWorker):
        """Is at work when the command is stopped."""

        def submit(self, job):
            monkeypatch.setattr(console.Job, "cancel", full)
            os.kill(os.getpid(), signal.SIGTERM)

    def full(job):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(console, "WorkerProcess", Stopped)
    code, _, stderr = braingen("generate", "--out", tmp_path / "out")
    assert code == 3
    assert "Cancelled." in stderr


def test_what_files_and_servers_say_does_not_steer_the_terminal(braingen, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "WorkerProcess", StubWorker)
    text = "see [/x] and [bold]this[/] \x1b[2J\x1b]0;title\x07\u202e."
    StubWorker.failure = Failure(code="bad_input", message=text, advice=text, traceback=text)
    _, _, stderr = braingen("generate", "--out", tmp_path / "out")
    assert stderr.count("see [/x] and [bold]this[/] [2J]0;title.") == 3
    assert "\x1b]" not in stderr


def test_bundles_and_info_say_what_there_is(braingen):
    code, stdout, _ = braingen("bundles")
    assert code == 0
    assert "brainspade3d" in stdout
    lines = [json.loads(line) for line in braingen("bundles", "--json")[1].splitlines()]
    assert {line["name"] for line in lines} >= {"brainspade3d", "segmenter"}
    machine = json.loads(braingen("info", "--json")[1])
    assert machine["devices"][-1]["name"] == "cpu"
    assert "device cpu" in braingen("info")[1]


def test_a_damaged_bundle_hides_no_other(braingen, tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder / "segmenter", tmp_path / "a" / "segmenter")
    (tmp_path / "a" / "segmenter" / "models" / "segmenter.safetensors").unlink()
    monkeypatch.setenv("BRAINGEN_BUNDLES", os.pathsep.join([str(tmp_path / "a"), str(tiny_folder)]))
    code, stdout, _ = braingen("bundles", "--json")
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert code == 2
    assert "is missing; install the bundle again" in next(line["remark"] for line in lines if "remark" in line)
    assert "brainspade3d" in [line.get("name") for line in lines]


def test_info_lists_the_label_table(braingen):
    assert "white matter hyperintensity" in braingen("info", "--labels")[1]
    rows = [json.loads(line) for line in braingen("info", "--labels", "--json")[1].splitlines()]
    assert rows[0]["value"] == 0
    assert len(rows) > 30


@pytest.mark.parametrize("recipe", ["segmenter", "label-autoencoder", "label-diffusion", "renderer"])
def test_training_without_a_cache_is_refused(braingen, tmp_path, recipe):
    code, _, stderr = braingen("train", recipe, tmp_path / "nothing", tmp_path / "run", "--device", "cpu")
    assert code == 2
    assert "holds no" in stderr
    assert braingen("train", "export", recipe, tmp_path / "run", tmp_path / "bundle")[0] == 2
    assert not (tmp_path / "bundle").exists()


def test_a_run_of_another_recipe_is_refused_and_each_notes_its_own(braingen, tmp_path):
    from BrainGenLib.cli.training import Recipe
    from BrainGenLib.training.run import folder_of

    run = tmp_path / "run"
    with folder_of(run, "segmenter"):
        run.mkdir()
        (run / "state.pt").write_bytes(b"state")
    others = [recipe.value for recipe in Recipe if recipe is not Recipe.SEGMENTER]
    commands = [(recipe, (recipe, tmp_path / "cache", run)) for recipe in others]
    for recipe, command in [*commands, ("donors", ("export", "donors", run, tmp_path / "bundle"))]:
        code, _, stderr = braingen("train", *command)
        assert code == 2
        assert f"{run} is a run of segmenter, not of {recipe}; give each recipe a folder of its own." in stderr
    assert not (tmp_path / "bundle").exists()
    # Where nothing was begun nothing is noted.
    assert braingen("train", "donors", tmp_path / "cache", tmp_path / "other")[0] == 2
    assert not (tmp_path / "other").exists()


def test_donors_for_whom_there_is_no_memory_are_refused(braingen, tmp_path, monkeypatch):
    from BrainGenLib.errors import OutOfMemory
    from BrainGenLib.training import donors

    def train(*_, **__):
        raise OutOfMemory("9 donors take 5.0 GB of memory.")

    monkeypatch.setattr(donors, "train", train)
    code, _, stderr = braingen("train", "donors", tmp_path / "cache", tmp_path / "run")
    assert (code, "Traceback" in stderr) == (4, False)
    assert "9 donors take 5.0 GB of memory." in stderr


def test_preparing_nothing_is_refused(braingen, tmp_path):
    (tmp_path / "bids").mkdir()
    code, _, stderr = braingen("prepare", tmp_path / "bids", tmp_path / "cache")
    assert code == 2
    assert str(tmp_path / "bids") in stderr


def test_a_scene_is_written_once(braingen, tmp_path, segmentation):
    pytest.importorskip("slicer")
    subject = tmp_path / "out" / "sub-0001"
    assert braingen("render", segmentation, "--out", subject.parent)[0] == 0
    arguments = ["scene", subject, "--out", tmp_path / "case.mrb", "--screenshot", tmp_path / "case.png"]
    assert braingen(*arguments)[0] == 0
    assert (tmp_path / "case.mrb").stat().st_size > 1000
    assert (tmp_path / "case.png").stat().st_size > 1000
    code, _, stderr = braingen(*arguments)
    assert code == 2
    assert "exists already" in stderr
    assert braingen("scene", tmp_path, "--out", tmp_path / "other.mrb")[0] == 2


@pytest.mark.parametrize("command", ["segment", "render", "counterfactual"])
def test_a_folder_is_no_scan_and_is_told_how_to_become_one(braingen, tmp_path, command):
    (tmp_path / "dicom").mkdir()
    arguments = ["--set", "age=70"] if command == "counterfactual" else []
    code, _, stderr = braingen(command, tmp_path / "dicom", "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert "is a folder" in stderr
    assert "Convert DICOM first" in stderr


def test_a_change_by_so_much_is_not_taken_for_the_value(braingen, tmp_path):
    (tmp_path / "scan.nii").touch()
    for arguments in (["--set", "age=+30"], ["--known", "age=+45", "--set", "age=75"]):
        code, _, stderr = braingen("counterfactual", tmp_path / "scan.nii", "--out", tmp_path / "out", *arguments)
        assert code == 2
        assert "give the value itself" in stderr
    code, _, stderr = braingen(
        "sweep", "--over", "age=+10:+30:3", "--scan", tmp_path / "scan.nii", "--out", tmp_path / "out"
    )
    assert code == 2
    assert "--over 'age=+10:+30:3' is not understood" in stderr


def test_contrasts_and_sexes_may_be_called_as_people_do():
    names = ["T1", "t1w", "t1Gd", "T2", "flair", "pd", "T1w", "CT"]
    assert [console.contrast_of(name) for name in names] == ["T1w", "T1w", "T1ce", "T2w", "FLAIR", "PDw", "T1w", "CT"]
    assert console.named_numbers(["sex=Female", "age=61.5"], "--known") == {"sex": 0.0, "age": 61.5}
    with pytest.raises(BadInput, match="is not a number"):
        console.named_numbers(["age=Female"], "--known")


def test_help_shows_what_is_typed(braingen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, stdout, _ = braingen("--help")
    assert code == 0
    assert "torch" not in stdout
    assert "Exit codes: 0 done" in stdout
    for command in (word for word in ("generate", "render", "segment", "counterfactual", "sweep", "replay", "scene")):
        assert f"braingen {command} " in braingen(command, "--help")[1].partition("Examples:")[2]
    assert "braingen[app]" in braingen("app", "--help")[1]
    assert "braingen[scene]" in braingen("scene", "--help")[1]
    assert "the recipe's" in braingen("train", "segmenter", "--help")[1]
    assert braingen("--version")[1] == f"braingen {__version__}\n"


def test_a_port_that_is_none_is_refused(braingen):
    for command in ("app", "serve"):
        code, _, stderr = braingen(command, "--port", 80000)
        assert code == 2
        assert "65535" in stderr


def test_bundles_say_what_a_load_is(braingen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert "wmh (0–1 load, 1 is 50 mL)" in braingen("bundles")[1]


EXAMPLES = [
    line
    for command in app.registered_commands
    for line in (command.epilog or "").split("\n\n")[1:]
    if line.split()[1] in ("generate", "render", "segment", "counterfactual", "sweep")
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_help_are_accepted_with_the_shipped_models(tmp_path, monkeypatch, example):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "WorkerProcess", StubWorker)
    StubWorker.failure = Failure(code="cancelled", message="It would run.")
    arguments = shlex.split(example)[1:]
    for name in arguments:
        if name.endswith(".nii.gz"):
            (tmp_path / name).touch()
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, " ".join(result.stderr.split())) == (3, "Error: It would run.")
