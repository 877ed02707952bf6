"""The section Results: the cases of the scene."""

from slicer.i18n import tr as _


class ResultsSection:
    """Lists the cases of the scene, and shows, compares, deletes and exports those that are chosen.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        attempt: gives the context of a click, which shows what went wrong.
        showState: called with a sentence.
    """

    def __init__(self, ui, logic, attempt, showState) -> None:
        self._ui = ui
        self._logic = logic
        self._attempt = attempt
        self._showState = showState
        logic.onExported = self.onExported
        ui.resultsList.connect("itemSelectionChanged()", self.updateButtons)
        ui.showButton.connect("clicked(bool)", self.onShow)
        ui.donorsButton.connect("clicked(bool)", self.onShowDonors)
        ui.compareButton.connect("clicked(bool)", self.onCompare)
        ui.deleteButton.connect("clicked(bool)", self.onDelete)
        ui.exportButton.connect("clicked(bool)", self.onExport)
        ui.exportPath.connect("currentPathChanged(QString)", self.onExportPathChanged)

    def update(self, _node, _metadata) -> None:
        """Show what can be done; neither choices nor bundle matter."""
        self.updateButtons()

    def listCases(self) -> None:
        """Show the cases that there are now."""
        selected = self.selected()
        names = self._logic.caseNames()
        self._ui.resultsList.clear()
        for name in names:
            self._ui.resultsList.addItem(name)
        for row, name in enumerate(names):
            self._ui.resultsList.item(row).setSelected(name in selected)
        self.updateButtons()

    def selected(self) -> list:
        """Names of the cases that are chosen."""
        return [item.text() for item in self._ui.resultsList.selectedItems()]

    def updateButtons(self) -> None:
        names = self.selected()
        chosen = len(names)
        self._ui.showButton.setEnabled(chosen == 1)
        self._ui.donorsButton.setEnabled(chosen == 1 and self._logic.hasDonors(names[0]))
        self._ui.compareButton.setEnabled(chosen == 2)
        self._ui.deleteButton.setEnabled(chosen > 0)
        able = chosen > 0 and bool(self._ui.exportPath.currentPath) and not self._logic.exporting
        self._ui.exportButton.setEnabled(able)

    def onShow(self, _checked) -> None:
        with self._attempt():
            self._logic.show(self.selected()[0])

    def onShowDonors(self, _checked) -> None:
        with self._attempt():
            self._logic.showDonors(self.selected()[0])

    def onCompare(self, _checked) -> None:
        with self._attempt():
            self._logic.compare(*self.selected())

    def onDelete(self, _checked) -> None:
        with self._attempt():
            self._logic.delete(self.selected())

    def onExport(self, _checked) -> None:
        with self._attempt():
            self._logic.export(self.selected(), self._ui.exportPath.currentPath)
            self._showState(_("Exporting …"))

    def onExportPathChanged(self, _path) -> None:
        self.updateButtons()

    def onExported(self, done, said) -> None:
        self._showState(_("Written: {folders}").format(folders=said) if done else said)
        self.updateButtons()
