"""``python -m BrainGenLib.probe [SERVER]``: what an engine has, as JSON, asked for by a panel that must not wait.

It also shows that an interpreter has what the worker needs. The token of a server comes from ``BRAINGEN_TOKEN``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any


def describe(server: str | None, token: str) -> dict[str, Any]:
    """Devices and bundles of this computer, or the bundles of a server, which picks its device itself.

    Returns:
        ``devices`` and ``bundles``, or ``problem``: a sentence.
    """
    try:
        if server is not None:
            from BrainGenLib.service.remote import remote_bundles

            return {"devices": [], "bundles": [one.model_dump() for one in remote_bundles(server, token)]}
        from BrainGenLib import bundles, devices, engine

        assert engine  # imported for its own imports: a missing package is found now, not in the first job
        return {
            "devices": [asdict(device) for device in devices.available()],
            "bundles": [
                bundle.metadata.model_dump(exclude={"networks", "parameters"})
                for bundle in bundles.available().values()
            ],
        }
    except ImportError as error:
        return {"problem": f"{sys.executable} has no working package {error.name}; install braingen there."}
    except (ValueError, OSError) as error:
        advice = getattr(getattr(error, "failure", None), "advice", "")
        return {"problem": f"{error} {advice}".strip()}


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else None
    print(json.dumps(describe(address, os.environ.get("BRAINGEN_TOKEN", ""))))
