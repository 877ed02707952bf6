"""The Python packages that BrainGen needs: which are missing, and how they get into Slicer.

torch comes only through the PyTorch extension, which picks the build for the graphics card. monai is installed
without its dependencies, which would bring another torch. SimpleITK is Slicer's own and never replaced.
"""

import importlib
import importlib.metadata
import importlib.util

import slicer
from slicer.i18n import tr as _

# What computes on this computer needs these beside what the panel needs.
ENGINE = ("torch", "monai", "safetensors", "einops")
TORCH = "torch>=2.6"


def missing(requirementsPath: str, engine: bool) -> list:
    """Requirements that are not installed, or too old; nothing is imported to find out.

    Args:
        requirementsPath: file with a line for each package that pip installs.
        engine: whether models run in Slicer's own Python; if not, only the panel's packages count.
    """
    from packaging.requirements import Requirement

    with open(requirementsPath, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    wanted = [Requirement(line) for line in [TORCH, *lines]]
    return [need for need in wanted if (engine or need.name not in ENGINE) and not _installed(need)]


def install(requirements: list, onBegin) -> None:
    """Ask, then install.

    Args:
        requirements: what :func:`missing` gave.
        onBegin: called with their names when the user has agreed.

    Raises:
        RuntimeError: the user declined, or the PyTorch extension is missing.
        subprocess.CalledProcessError: pip failed.
    """
    names = [need.name for need in requirements]
    listed = ", ".join(names)
    if "torch" in names and importlib.util.find_spec("PyTorchUtils") is None:
        raise RuntimeError(
            _(
                "The extension PyTorch is not installed. Open Extensions Manager, install PyTorch, restart Slicer, "
                "and press Install again; or let another Python or a server compute (section Engine)."
            )
        )
    if not slicer.util.confirmOkCancelDisplay(
        _("BrainGen needs Python packages that are missing or too old: {names}. ").format(names=listed)
        + (_("PyTorch is a download of 0.2 to 3 GB, by graphics card. ") if "torch" in names else "")
        + _("They are downloaded from the internet and kept in Slicer's own Python. Install them now?"),
        windowTitle=_("BrainGen: install packages"),
    ):
        raise RuntimeError(_("The packages were not installed; press Install to be asked again."))
    onBegin(listed)
    if "torch" in names:
        installTorch()
    plain = [str(need) for need in requirements if need.name not in ("torch", "monai")]
    if plain and importlib.util.find_spec("slicer.packaging") is not None:
        from slicer.packaging import pip_ensure

        pip_ensure(plain, prompt_install=False, requester="BrainGen")
    elif plain:  # Slicer before 5.11
        slicer.util.pip_install(plain)
    for need in requirements:
        if need.name == "monai":
            slicer.util.pip_install(["--no-deps", str(need)])
    importlib.invalidate_caches()


def installTorch() -> None:
    """Through the PyTorch extension.

    Raises:
        RuntimeError: it could not install.
    """
    import PyTorchUtils

    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(torchVersionRequirement=TORCH.removeprefix("torch")) is None:
        raise RuntimeError(_("PyTorch could not be installed; the Python console says why."))


def _installed(need) -> bool:
    try:
        return need.specifier.contains(importlib.metadata.version(need.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False
