"""Turn ``benchmarks/results/*.json`` into docs/results.md and the table of the README: no figure is typed by hand.

python benchmarks/report.py
"""

from __future__ import annotations

from pathlib import Path

from BrainGenLib.evaluation.results import Result, Table

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- results:start -->", "<!-- results:end -->"
ORDER = (
    "speed",
    "patch_speed",
    "anatomy",
    "ruler",
    "cortex",
    "novelty",
    "own_donors",
    "conditions",
    "mass_effect",
    "age_law",
    "lesion_texture",
    "segmenter_dice",
    "agreement",
    "realism",
    "utility",
    "counterfactuals",
    "finetuning",
)
VERDICT = {True: "yes", False: "**no**", None: "–"}
MOSAIC = """## Blind mosaic

![Real and synthetic slices](images/blind_mosaic.png)

Which of these are real? The answers, with the sources of the real ones, are in
[the key](images/blind_mosaic_key.csv). Real slices: T1w from OpenNeuro ds002748 (Bezmaternykh et al. 2021, CC0),
others from the open MS data sets of Lesjak et al. 2018 and 2016 (CC BY); shown as downsized slices.
"""


def load(folder: Path) -> list[Result]:
    """All results, in the order of a reader's questions; others after them by name."""
    results = [Result.model_validate_json(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(results, key=lambda result: (rank.get(result.name, len(rank)), result.name))


def headlines(results: list[Result]) -> str:
    """The README's table."""
    rows: list[list[str | float | int | None]] = [
        [line.what, line.figure, line.target or "–", VERDICT[line.met]]
        for result in results
        for line in result.headlines
    ]
    return Table(title="", columns=["what", "figure", "target", "met"], rows=rows).markdown()


def page(result: Result) -> str:
    """The section of a result in docs/results.md."""
    machine = ", ".join(f"{key} {value}" for key, value in result.environment.items())
    tables = [f"### {table.title}\n\n{table.markdown()}" for table in result.tables]
    notes = "\n".join(f"- {note}" for note in result.notes)
    origin = f"`benchmarks/{result.name}.py`, {result.created[:10]}; {machine}."
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    return "\n\n".join(
        [f"## {result.title}", *tables, notes, origin + (f" Settings: {settings}." if settings else "")]
    )


def between_markers(text: str, content: str) -> str:
    """The text with everything between the markers replaced.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"The README needs the lines {START} and {END}, once each and in this order.")
    before, rest = text.split(START)
    return f"{before}{START}\n{content}\n{END}{rest.split(END)[1]}"


def main() -> None:
    results = load(ROOT / "benchmarks" / "results")
    readme = ROOT / "README.md"
    table = headlines(results)
    readme.write_text(between_markers(readme.read_text("utf-8"), table), "utf-8")
    mosaic = [MOSAIC] if (ROOT / "docs" / "images" / "blind_mosaic.png").is_file() else []
    text = "\n\n".join(
        [
            "# Results",
            "Written by `benchmarks/report.py` from `benchmarks/results/`.",
            table,
            *map(page, results),
            *mosaic,
        ]
    )
    (ROOT / "docs" / "results.md").write_text(text.rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
