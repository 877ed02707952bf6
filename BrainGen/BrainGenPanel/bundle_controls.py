"""The controls that are made from the metadata of a bundle: its conditions as sliders, its contrasts as boxes."""

import qt
import slicer
from slicer.i18n import tr as _

from BrainGenPanel import layouts, model_card
from BrainGenPanel.condition_row import ConditionRow

HOLDERS = ("pathologyRows", "anatomyRows", "contrastBoxes", "renderContrastBoxes")


class BundleControls:
    """Chooses the bundle, and keeps what is chosen from it in the parameter node.

    Args:
        ui: widgets of the panel by name.
        logic: :class:`BrainGenPanel.logic.BrainGenLogic`.
        onBuilt: called when there are other controls.
        onChosen: called when the user has moved one of them.

    Attributes:
        rows: :class:`BrainGenPanel.condition_row.ConditionRow` of each condition.
        contrastBoxes, renderContrastBoxes: boxes by contrast, for what is generated and what is rendered.
    """

    def __init__(self, ui, logic, onBuilt, onChosen) -> None:
        self.rows = []
        self.contrastBoxes = {}
        self.renderContrastBoxes = {}
        self._ui = ui
        self._logic = logic
        self._onBuilt = onBuilt
        self._onChosen = onChosen
        self._bundles = {}
        self._built = None
        self._node = None
        self._showing = False
        ui.bundleSelector.connect("activated(int)", self.onBundleChanged)
        ui.bundleCard.connect("linkActivated(QString)", self.onCard)

    @property
    def metadata(self):
        """Of the bundle that makes images, or None: not chosen, or not known yet."""
        return self._bundles.get(self._node.bundle) if self._node else None

    def setBundles(self, bundles: dict) -> None:
        """These are the ones that the engine has, by name."""
        self._bundles = bundles
        self.build()

    def setParameterNode(self, node) -> None:
        """Choices are kept here from now on."""
        self._node = node
        if node:
            self.chooseDefaults()
            self.update()

    def onBundleChanged(self, index) -> None:
        self._node.bundle = str(self._ui.bundleSelector.itemData(index))

    def onCard(self, name) -> None:
        return model_card.show(self._bundles[name].title, self._logic.engine.modelCard(name))

    def update(self) -> None:
        """Show what the parameter node holds: after another scene was opened, that may be another bundle."""
        if self.metadata is not self._built:
            self.build()
        else:
            self.show()

    def build(self) -> None:
        """A slider for each condition of the bundle, a box for each contrast: round where only one is possible."""
        able = [bundle for bundle in self._bundles.values() if "generate" in bundle.verbs]
        # What makes labels comes first: it is chosen where the scene says none, or one that is not here.
        able.sort(key=lambda bundle: bool(bundle.family))
        if self._node and able and self.metadata is None:
            self._node.bundle = able[0].name
        self._clear()
        for bundle in able:
            self._ui.bundleSelector.addItem(f"{bundle.title} {bundle.version}", bundle.name)
        metadata = self._built = self.metadata
        if metadata is not None:
            self._ui.bundleSelector.setCurrentIndex(self._ui.bundleSelector.findData(metadata.name))
            self._ui.bundleCard.setText(self._card(metadata))
            self._addRows(metadata)
            one = qt.QRadioButton if metadata.family else qt.QCheckBox
            self._addBoxes(self._ui.contrastBoxes, self.contrastBoxes, metadata.contrasts, one)
            self._addBoxes(self._ui.renderContrastBoxes, self.renderContrastBoxes, metadata.contrasts, qt.QCheckBox)
            self.chooseDefaults()
            self.show()
        self._onBuilt()

    def chooseDefaults(self) -> None:
        """Contrasts that the bundle does not know are forgotten, and one is chosen where there is none."""
        if self.metadata is None:
            return
        known = self.metadata.contrasts
        for parameter in ("contrasts", "renderContrasts"):
            chosen = list(getattr(self._node, parameter))
            able = [name for name in chosen if name in known] or known[:1]
            if self.metadata.family:
                able = able[:1]
            if able != chosen:
                setattr(self._node, parameter, able)

    def show(self) -> None:
        """What the parameter node holds, in the widgets that are made by name."""
        node = self._node
        asked = {**node.pathologies, **node.anatomy}
        sides, lobes = dict(node.sides), dict(node.lobes)
        self._showing = True
        try:
            for row in self.rows:
                name = row.condition.name
                row.show(asked.get(name), sides.get(name, ""), lobes.get(name, ""))
                row.offerFor(list(node.contrasts))
            for boxes, chosen in (
                (self.contrastBoxes, node.contrasts),
                (self.renderContrastBoxes, node.renderContrasts),
            ):
                for contrast, box in boxes.items():
                    box.setChecked(contrast in chosen)
        finally:
            self._showing = False

    def onContrast(self, _checked) -> None:
        self.onChoice()

    def onChoice(self) -> None:
        """What the user chose in those widgets, into the parameter node."""
        node = self._node
        if self._showing or not node:
            return
        values = {row.condition.name: row.value() for row in self.rows}
        asked = {name: value for name, value in values.items() if value is not None}
        places = {row.condition.name: row.place() for row in self.rows}
        with slicer.util.NodeModify(node.parameterNode):
            pathologies = [row.condition.name for row in self.rows if row.isPathology]
            node.pathologies = {name: value for name, value in asked.items() if name in pathologies}
            node.anatomy = {name: value for name, value in asked.items() if name not in pathologies}
            node.sides = {name: side for name, (side, _lobe) in places.items() if side}
            node.lobes = {name: lobe for name, (_side, lobe) in places.items() if lobe}
            node.contrasts = [name for name, box in self.contrastBoxes.items() if box.checked]
            node.renderContrasts = [name for name, box in self.renderContrastBoxes.items() if box.checked]
        self._onChosen()

    def _clear(self) -> None:
        for holder in HOLDERS:
            layouts.clear(getattr(self._ui, holder))
        self.rows, self.contrastBoxes, self.renderContrastBoxes = [], {}, {}
        self._ui.bundleSelector.clear()
        self._ui.bundleCard.setText("")

    def _card(self, metadata) -> str:
        lines = [metadata.description, *metadata.limits, _("Licence: {name}.").format(name=metadata.license)]
        if self._logic.engine.modelCard(metadata.name) is not None:
            lines.append('<a href="{name}">{title}</a>'.format(name=metadata.name, title=_("Model card")))
        return " ".join(lines)

    def _addRows(self, metadata) -> None:
        places = self._logic.places()
        tick = _("Ticked: as asked. Not ticked: sampled anew for each case.")
        if metadata.family:
            tick = _("Ticked: as asked. Not ticked: the default of the model.")
        for condition in metadata.conditions:
            row = ConditionRow(condition, self.onChoice, "" if condition.kind == "pathology" else tick, places)
            holder = self._ui.pathologyRows if row.isPathology else self._ui.anatomyRows
            holder.layout().addRow(row.label, row.widget)
            self.rows.append(row)

    def _addBoxes(self, holder, boxes: dict, contrasts, kind) -> None:
        for contrast in contrasts:
            boxes[contrast] = kind(contrast)
            boxes[contrast].connect("toggled(bool)", self.onContrast)
            holder.layout().addWidget(boxes[contrast])
