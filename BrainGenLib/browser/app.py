"""The app: state, sections and scene put together and served."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from trame.app import TrameApp

from BrainGenLib.browser.access import guard
from BrainGenLib.browser.logic.counterfactual import CounterfactualLogic
from BrainGenLib.browser.logic.engine import EngineLogic
from BrainGenLib.browser.logic.film import FilmLogic
from BrainGenLib.browser.logic.generate import GenerateLogic
from BrainGenLib.browser.logic.render import RenderLogic
from BrainGenLib.browser.logic.results import ResultsLogic
from BrainGenLib.browser.logic.run import RunLogic
from BrainGenLib.browser.logic.segment import SegmentLogic
from BrainGenLib.browser.logic.transfers import TransfersLogic
from BrainGenLib.browser.logic.views import ViewsLogic
from BrainGenLib.browser.shelf import Shelf
from BrainGenLib.browser.stage import Stage
from BrainGenLib.browser.ui.page import MODULE, PageUI
from BrainGenLib.errors import BadInput
from BrainGenLib.session import Session

# It parses the command line of the process and talks on its output; both are ours.
_EVERYWHERE = ("0.0.0.0", "::")
_TRAME_ENVIRONMENT = {"TRAME_ARGS": "--server", "WSLINK_READY_MSG": ""}


class BrowserApp(TrameApp):
    """One scene for all who open the page.

    Args:
        server: of trame, or its name.
        session: where requests run.
        shelf: where results are kept.
        address: of the server that the session's worker speaks with; empty if it computes itself.
        token: for that server.

    Raises:
        BadInput: no bundle can generate, or nothing can draw.
        ConnectionError: the server cannot be asked, or says no.
    """

    def __init__(self, server: Any, session: Session, shelf: Shelf, address: str = "", token: str = "") -> None:
        import trame_slicer.module

        super().__init__(server)
        self.session = session
        self.server.enable_module(trame_slicer.module)
        self.server.enable_module(MODULE)
        self.server.state.trame__title = "BrainGen"
        stage = Stage(self.server)
        self.scene = stage.scene
        self.engine = EngineLogic(self.server, address, token)
        self.views = ViewsLogic(self.server, stage)
        self.film = FilmLogic(self.server, stage, self.views)
        self.results = ResultsLogic(self.server, self.scene, shelf, self.views)
        self.run = RunLogic(self.server, self.scene, self.views, self.results, session)
        self.generate = GenerateLogic(self.server, self.scene, self.engine, self.run)
        self.render = RenderLogic(self.server, self.scene, self.engine, self.run, self.views)
        self.segment = SegmentLogic(self.server, self.scene, self.engine, self.run)
        self.counterfactual = CounterfactualLogic(self.server, self.scene, self.engine, self.run)
        self.transfers = TransfersLogic(self.server, self.scene, self.views, self.results)
        self.page = PageUI(self.server, stage)
        self._connect()

    def serve(self, host: str, port: int, token: str) -> None:
        """Serve the page until Ctrl-C.

        Args:
            host: address to listen on.
            port: to listen on; 0 takes a free one.
            token: as for :func:`BrainGenLib.browser.access.guard`.

        Raises:
            BadInput: the port is taken, or the address is not of this machine.
        """
        os.environ.update(_TRAME_ENVIRONMENT)

        def bind(wslink: Any) -> None:
            wslink.app.middlewares.append(guard(token))
            wslink.app.add_routes(self.transfers.routes())

        def ready(**_: Any) -> None:
            print(f"BrainGen runs at {_address(host, self.server.port, token)}", flush=True)
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self.engine.find_devices()), loop.create_task(self.results.restore())]

        self.server.controller.on_server_bind.add(bind)
        self.server.controller.on_server_ready.add(ready)
        try:
            self.server.start(
                port=port,
                host=host,
                open_browser=False,
                show_connection_info=False,
                disable_logging=True,
                # It would end some minutes after the last tab was closed.
                timeout=0,
            )
        except OSError as error:
            raise BadInput(f"Cannot listen on {host}, port {port}; choose others with --host and --port.") from error
        finally:
            self.session.close()
            self.transfers.close()

    def _connect(self) -> None:
        page = self.page
        for section in (page.generate, page.render, page.segment, page.counterfactual):
            section.cancel_clicked.connect(self.run.cancel)
        page.generate.generate_clicked.connect(self.generate.generate)
        page.generate.new_seed_clicked.connect(self.generate.new_seed)
        page.render.render_clicked.connect(self.render.render)
        page.render.erase_clicked.connect(self.render.erase)
        page.render.restore_clicked.connect(self.render.restore)
        page.segment.segment_clicked.connect(self.segment.segment)
        page.counterfactual.find_clicked.connect(self.counterfactual.find_lesions)
        page.counterfactual.apply_clicked.connect(self.counterfactual.apply)
        for chosen in (page.render.segmentation_chosen, page.segment.scan_chosen, page.counterfactual.scan_chosen):
            chosen.connect(self.results.show_node)
        page.results.show_clicked.connect(self.results.show)
        page.results.contrast_clicked.connect(self.results.show)
        page.results.compare_clicked.connect(self.results.compare)
        page.results.delete_clicked.connect(self.results.delete)
        page.results.hide_clicked.connect(self.views.clear)
        page.results.answer_clicked.connect(self.transfers.answer)
        page.results.drop_clicked.connect(self.transfers.drop)
        self.render.on_edited = self.results.edited


def _address(host: str, port: int, token: str) -> str:
    """What a user opens."""
    name = socket.gethostname() if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/index.html?token={token}"
