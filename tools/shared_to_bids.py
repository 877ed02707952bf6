"""Lay the shared data folder out as a BIDS tree that ``braingen prepare`` reads.

Usage: python tools/shared_to_bids.py SHARED_DATA OUT [--ds002748-git DIR] [--ds002748-labels DIR] [--label-missing]

Left out, with the reason: ``ood`` (for tests only), ``templates`` (not a subject), lab2im's map (the same person as
training_seg_01), masks of native-space or lesion-change MS lesions (no image here on their grid), the raw 5.5 mm
FLAIR of tcga_fg_6692 (another session of a subject that is in already, on no common grid).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

Row = dict[str, str]
SUFFIX = {"T1": "T1w", "T1w": "T1w", "T2": "T2w", "T2w": "T2w", "FLAIR": "FLAIR", "PD": "PDw", "T1Gd": "ce-gd_T1w"}
COLUMNS = ["participant_id", "age", "sex", "dataset", "pathology", "split", "licence"]


class Tree:
    """The BIDS tree under construction."""

    def __init__(self, out: Path, rows: list[Row]) -> None:
        self.out = out
        self.rows = rows
        self.people: dict[str, Row] = {}

    def person(self, subject: str, row: Row) -> None:
        """Enter a participant; the first row with an age, sex or pathology wins."""
        entry = self.people.setdefault(subject, dict.fromkeys(COLUMNS, "n/a"))
        fields = {
            "age": row["age"],
            "sex": row["sex"],
            "dataset": row["set"],
            "pathology": row["pathology"],
            "split": row["split"],
            "licence": row["licence"],
        }
        entry["participant_id"] = f"sub-{subject}"
        for name, value in fields.items():
            if entry[name] == "n/a" and value not in ("", "NA"):
                entry[name] = value

    def image(self, subject: str, contrast: str, *, session: str = "") -> Path:
        return self._path(self.out, subject, session, SUFFIX[contrast])

    def label(self, subject: str, name: str, *, session: str = "") -> Path:
        return self._path(self.out / "derivatives" / "labels", subject, session, name)

    @staticmethod
    def _path(root: Path, subject: str, session: str, name: str) -> Path:
        folder = root / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"sub-{subject}_" + (f"ses-{session}_" if session else "")
        return folder / f"{prefix}{name}.nii.gz"

    def of(self, dataset: str) -> Iterator[Row]:
        return (row for row in self.rows if row["set"] == dataset and row["file"].endswith(".nii.gz"))


def ixi(tree: Tree, data: Path) -> None:
    for row in tree.of("ixi_2mm"):
        subject = row["subject"].lower()
        tree.person(subject, row)
        if row["kind"].startswith("T1w"):
            shutil.copyfile(data / row["file"], tree.image(subject, "T1"))
        elif "synthseg" in row["kind"]:
            shutil.copyfile(data / row["file"], tree.label(subject, "space-T1w_desc-anatomy_dseg"))


def ds002748(tree: Tree, data: Path, git: Path | None, labels: Path | None) -> None:
    for row in tree.of("ds002748"):
        subject = "ds002748s" + row["subject"].removeprefix("sub-")
        row = {**row, "pathology": row["pathology"].split(" (")[0]}
        tree.person(subject, row)
        fine = "2mm" not in row["kind"]
        if row["kind"].startswith("T1w"):
            target = tree.image(subject, "T1")
            original = (
                None if fine or git is None else blob(git, f"{row['subject']}/anat/{row['subject']}_T1w.nii.gz")
            )
            if original:
                target.write_bytes(original)
            else:
                shutil.copyfile(data / row["file"], target)
        else:
            source = data / row["file"]
            if not fine and git and labels and (own := labels / f"{row['subject']}_labels.nii.gz").is_file():
                source, fine = own, True
            name = "space-T1w_desc-anatomy_dseg" if fine else "space-T1w_res-2mm_desc-anatomy_dseg"
            shutil.copyfile(source, tree.label(subject, name))


def blob(git: Path, path: str) -> bytes | None:
    """A file of a bare repository's HEAD, None where it is absent or damaged."""
    done = subprocess.run(["git", "--git-dir", str(git), "show", f"HEAD:{path}"], capture_output=True, check=False)
    if done.returncode:
        return None
    try:
        gzip.decompress(done.stdout)
    except (OSError, EOFError):
        return None
    return done.stdout


def nichart(tree: Tree, data: Path) -> None:
    names = {"T1w": "", "labels:synthseg": "space-T1w_desc-anatomy_dseg", "lesion": "space-FLAIR_label-wmh_mask"}
    for row in tree.of("nichart_demo"):
        subject = "nichart" + row["subject"].removeprefix("Subj").zfill(2)
        tree.person(subject, row)
        if row["kind"].startswith(("T1w", "FLAIR")):
            shutil.copyfile(data / row["file"], tree.image(subject, row["kind"].split()[0]))
            continue
        for kind, name in names.items():
            if row["kind"].startswith(kind):
                shutil.copyfile(data / row["file"], tree.label(subject, name))


def same_grid_sets(tree: Tree, data: Path) -> None:
    """Sets whose images, labels and masks lie on one grid per subject."""

    def subject_of(row: Row) -> str:
        name = re.sub("[^A-Za-z0-9]", "", row["subject"]).lower()
        return {"cbica_wmh": "cbica", "mrisnapshot": "mrisnapshot", "arc_t2": "arc", "tumour": ""}[row["set"]] + name

    for dataset, lesion in (("cbica_wmh", "wmh"), ("mrisnapshot", "wmh"), ("arc_t2", "stroke"), ("tumour", "tumour")):
        for row in tree.of(dataset):
            if row["session"] == "raw":
                continue
            subject, kind = subject_of(row), row["kind"]
            tree.person(subject, row)
            contrast = kind.split()[0]
            if contrast in SUFFIX:
                target = tree.image(subject, contrast)
            elif kind.startswith("labels:synthseg"):
                target = tree.label(subject, "space-T1w_desc-anatomy_dseg")
            elif kind.startswith("lesion mask"):
                space = "" if dataset == "arc_t2" else "space-T1w_"
                target = tree.label(subject, f"{space}label-{lesion}_{'dseg' if lesion == 'tumour' else 'mask'}")
            elif kind in ("brain mask", "ICV mask"):
                target = tree.label(subject, "space-T1w_desc-brain_mask")
            else:
                continue
            shutil.copyfile(data / row["file"], target)


def open_ms(tree: Tree, data: Path) -> None:
    for row in tree.of("open_ms"):
        file, kind = row["file"], row["kind"]
        if "native" in kind or "lesion-change" in kind or kind == "brain mask, common space":
            continue
        long = row["subject"].startswith("long_") or "long_" in file
        number = re.search(r"patient(\d+)", file)
        assert number is not None
        subject = ("openmslong" if long else "openms") + number[1]
        session = "" if not long else re.search(r"study(\d)", file)[1]  # type: ignore[index]
        tree.person(subject, row)
        if "consensus" in kind:
            shutil.copyfile(data / file, tree.label(subject, "space-MNI152_label-ms_mask"))
        elif kind.startswith("labels:"):
            name = "space-T1w_desc-anatomy_dseg" if long else "space-MNI152_desc-anatomy_dseg"
            shutil.copyfile(data / file, tree.label(subject, name, session=session))
        else:
            contrast = {"T1W": "T1", "T2W": "T2"}.get(kind.split()[0], kind.split()[0])
            target = tree.image(subject, contrast, session=session)
            if not long:
                target = target.with_name(target.name.replace(f"sub-{subject}_", f"sub-{subject}_space-MNI152_"))
            shutil.copyfile(data / file, target)


def synthseg(tree: Tree, data: Path) -> None:
    for row in tree.of("synthseg_labels"):
        if "lab2im" in row["kind"]:
            continue
        whole_head = row["subject"].startswith("training_seg")
        subject = (
            row["subject"].replace("training_seg_", "synthseg").replace("synthsr_brain", "synthsr").split("_")[0]
        )
        tree.person(subject, row)
        shutil.copyfile(data / row["file"], tree.label(subject, f"desc-{'head' if whole_head else 'anatomy'}_dseg"))


def strokes(tree: Tree, data: Path) -> None:
    with (data / "stroke_lesions" / "soop_participants.csv").open() as file:
        people = {row["participant_id"]: row for row in csv.DictReader(file)}
    for row in (r for r in tree.rows if r["set"] == "stroke_lesions" and r["file"].endswith(".npz")):
        packed = np.load(data / row["file"])
        short = "soop" if "soop" in row["file"] else "lesymap"
        voxels = int(np.prod(packed["shape"]))
        for bits, name in zip(packed["bits"], packed["ids"], strict=True):
            subject = short + re.sub(r"\D", "", str(name)).zfill(4)
            person = people.get(str(name), {}) if short == "soop" else {}
            tree.person(
                subject,
                {
                    **row,
                    "age": person.get("age", ""),
                    "sex": person.get("sex", ""),
                    "pathology": "acute stroke" if short == "soop" else "chronic stroke",
                },
            )
            mask = np.unpackbits(bits)[:voxels].reshape(packed["shape"])
            target = tree.label(subject, "space-MNI152_label-stroke_mask")
            image = nibabel.Nifti1Image(mask, packed["affine"])
            target.write_bytes(gzip.compress(image.to_bytes(), 1))


def label_missing(tree: Tree, data: Path) -> None:
    """Teacher labels for the one tumour case that has none (MeshNet of the shared tools, 35 s)."""
    source, target = tree.image("bratscase", "T1"), tree.label("bratscase", "space-T1w_desc-anatomy_dseg")
    subprocess.run([sys.executable, str(data / "tools" / "meshseg.py"), f"{source}::{target}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--ds002748-git", type=Path, help="bare clone of aaronsossin/DepressionMRI_AI (1 mm originals)"
    )
    parser.add_argument("--ds002748-labels", type=Path, help="folder of sub-XX_labels.nii.gz for the 1 mm originals")
    parser.add_argument("--label-missing", action="store_true", help="run MeshNet on brats_case")
    options = parser.parse_args()
    with (options.data / "manifest.csv").open() as file:
        tree = Tree(options.out, [row for row in csv.DictReader(file) if row["set"] != "ood"])
    ixi(tree, options.data)
    ds002748(tree, options.data, options.ds002748_git, options.ds002748_labels)
    nichart(tree, options.data)
    same_grid_sets(tree, options.data)
    open_ms(tree, options.data)
    synthseg(tree, options.data)
    strokes(tree, options.data)
    if options.label_missing:
        label_missing(tree, options.data)
    with (options.out / "participants.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(tree.people[name] for name in sorted(tree.people))
    description = {
        "Name": "BrainGen shared data",
        "BIDSVersion": "1.9.0",
        "License": "see participants.tsv, per subject",
    }
    (options.out / "dataset_description.json").write_text(json.dumps(description, indent=1), "utf-8")
    derived = {
        "Name": "labels",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "tools/shared_to_bids.py"}],
    }
    (options.out / "derivatives" / "labels" / "dataset_description.json").write_text(
        json.dumps(derived, indent=1), "utf-8"
    )
    print(f"{len(tree.people)} participants in {options.out}")


if __name__ == "__main__":
    main()
