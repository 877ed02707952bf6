#!/usr/bin/env bash
# bids-validator-deno 3.0.2 checks ages in participants.tsv only where participants.json does not describe them.
#
# Expected: a described column is checked at least as strictly as one that is not.
# Seen:     without participants.json an age of 96 is an error (TSV_VALUE_INCORRECT_TYPE), because ages above 89 count as
#           identifying, and so is "old"; -3 passes. As soon as participants.json gives `age` any description, 96, -3 and
#           "old" pass without a word; with Units "year" "old" is an error again.
# Matters:  models of ageing are conditioned on this column. Sets with people above 89 fail validation without a sidecar;
#           with a description of one line "the validator passes" says nothing about the ages.
# Source:   https://pypi.org/project/bids-validator-deno/3.0.2/ (bids-standard/bids-validator), run on 2026-11-30
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet bids-validator-deno==3.0.2 nibabel==5.4.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import json
import subprocess
import tempfile
from pathlib import Path

import nibabel
import numpy as np


def errors(ages: list[str], description: dict[str, str] | None) -> list[str]:
    """Values of `age` that are errors in a small valid data set."""
    root = Path(tempfile.mkdtemp(dir="."))
    fields = {"Name": "phantom", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0", "Authors": ["A", "B"]}
    (root / "dataset_description.json").write_text(json.dumps(fields))
    (root / "README.md").write_text("A phantom, to see how ages are checked. " * 10)
    rows = ["participant_id\tage"]
    for number, age in enumerate(ages, start=1):
        folder = root / f"sub-{number:02}" / "anat"
        folder.mkdir(parents=True)
        image = nibabel.Nifti1Image(np.zeros((4, 4, 4), dtype="int16"), np.eye(4))
        nibabel.save(image, folder / f"sub-{number:02}_T1w.nii.gz")
        rows.append(f"sub-{number:02}\t{age}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    if description is not None:
        (root / "participants.json").write_text(json.dumps({"age": description}))
    command = ["venv/bin/bids-validator-deno", "--format", "json", str(root)]
    answer = subprocess.run(command, capture_output=True, text=True)
    issues = json.loads(answer.stdout)["issues"]["issues"]
    found = [issue for issue in issues if issue["severity"] == "error"]
    assert {issue["code"] for issue in found} <= {"TSV_VALUE_INCORRECT_TYPE"}, found
    assert (answer.returncode == 0) == (not found)
    return [issue["issueMessage"].strip("'") for issue in found]


TEXT, YEARS = {"Description": "age of the participant"}, {"Description": "age of the participant", "Units": "year"}
for ages, description, expected in (
    (["34", "89"], None, []),
    (["34", "96"], None, ["96"]),
    (["34", "old"], None, ["old"]),
    (["34", "-3"], None, []),
    (["34", "96", "-3", "old"], TEXT, []),
    (["34", "96"], YEARS, []),
    (["34", "old"], YEARS, ["old"]),
):
    seen = errors(ages, description)
    print(ages, "described by", description, "errors:", seen)
    assert seen == expected
PY
