"""The dashboard over all datasets, as the JSON that Grafana reads from a file."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping

from bridge.model.schema import Param, Shape
from bridge.provision import queries
from bridge.provision.catalogue import DATASOURCE, Catalogue, Dataset, Variable
from bridge.provision.panels import WIDE, Builder, Query, Tile, reference, tiles
from bridge.provision.states import state_tile

with warnings.catch_warnings():
    # The newer builders write a format that Grafana does not read from files yet.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.cog import builder as cog
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import dashboard as models

# By this tag the file is known as one that may be written again.
MARK = "bridge-provisioned"
REFRESH = "10s"
RANGE = ("now-6h", "now")
ANNOTATION_COLOR = "light-blue"
_MAX_ID = 2**31 - 1


def dashboard_json(
    catalogue: Catalogue, *, uid: str, title: str, datasource_uid: str, status: Dataset | None = None
) -> str:
    """The dashboard: a row per source, its panels by the shape of each dataset, a variable per dimension.

    Shape: the same datasets give the same text; a panel keeps its id whatever is added beside it. `status` is the
           dataset that tells how the others are doing; it stands above them.
    """
    out = begun(catalogue, uid=uid, title=title, datasource_uid=datasource_uid, about="All datasets of bridge.")
    out.annotations([_annotation(catalogue, d) for d in catalogue.datasets if d.shape is Shape.ANNOTATIONS])
    groups = {source: tiles(catalogue, datasets) for source, datasets in catalogue.by_source().items()}
    names = [dataset.name for dataset in catalogue.datasets]
    place(out, {"": [state_tile(status, names)], **groups} if status else groups)
    return written(out)


def begun(catalogue: Catalogue, *, uid: str, title: str, datasource_uid: str, about: str) -> builders.Dashboard:
    """A dashboard without panels, with its variables."""
    out = builders.Dashboard(title).uid(uid).tags(["bridge", MARK]).editable()
    out.description(f"{about} Written by `bridge provision infinity`, which replaces what is changed here.")
    out.time(*RANGE).refresh(REFRESH).timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    out.with_variable(_datasource(datasource_uid))
    for variable in catalogue.variables:
        out.with_variable(_given(variable, variable.param) if variable.param else _picker(variable, catalogue))
    return out


def written(out: builders.Dashboard) -> str:
    """The dashboard as the text of its file."""
    return json.dumps(out.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def place(out: builders.Dashboard, groups: Mapping[str, Iterable[Tile]]) -> None:
    """Rows and panels from top to bottom; those under no title stand under no row."""
    ids = _Ids()
    top = 0
    for title, panels in groups.items():
        if title:
            at = models.GridPos(h=1, w=WIDE, x=0, y=top)
            out.with_row(builders.Row(title).id(ids.of(f"{title}|row")).grid_pos(at))
            top += 1
        for line in _lines(panels):
            left = 0
            for tile in line:
                at = models.GridPos(h=tile.height, w=tile.width, x=left, y=top)
                out.with_panel(_Placed(tile.panel.id(ids.of(tile.key)).grid_pos(at)))
                left += tile.width
            top += max(tile.height for tile in line)


class _Placed(cog.Builder[models.Panel]):
    """A panel's builder under the one type that the dashboard's builder takes."""

    def __init__(self, panel: Builder) -> None:
        self._panel = panel

    def build(self) -> models.Panel:
        return self._panel.build()


class _Ids:
    """Numbers that follow from what a panel shows, so that links and embeds to it outlive its neighbours."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def of(self, key: str) -> int:
        number = zlib.crc32(key.encode()) % _MAX_ID + 1
        while number in self._taken:
            number = number % _MAX_ID + 1
        self._taken.add(number)
        return number


def _lines(given: Iterable[Tile]) -> Iterator[list[Tile]]:
    """The tiles that stand beside each other; one alone in its line takes all of it."""
    line: list[Tile] = []
    for tile in given:
        if line and sum(item.width for item in line) + tile.width > WIDE:
            yield _stretched(line)
            line = []
        line.append(tile)
    if line:
        yield _stretched(line)


def _stretched(line: list[Tile]) -> list[Tile]:
    return [Tile(line[0].key, line[0].panel, WIDE, line[0].height)] if len(line) == 1 else line


def _datasource(uid: str) -> builders.DatasourceVariable:
    out = builders.DatasourceVariable(DATASOURCE).label("Datasource").type(queries.PLUGIN)
    return out.current(models.VariableOption(text=uid, value=uid))


def _picker(variable: Variable, catalogue: Catalogue) -> builders.QueryVariable:
    """The values of a dimension, any number of them at once."""
    query: dict[str, object] = {
        "queryType": "infinity",
        "refId": "variable",
        "query": "",
        "infinityQuery": queries.values_model(variable, catalogue),
    }
    out = (
        builders.QueryVariable(variable.name).label(_label(variable, catalogue)).datasource(reference()).query(query)
    )
    out.definition(f"{variable.datasets[0].name}.{variable.word}").multi(True).include_all(True)
    # Not the values joined: rows without a value belong to "All" as well, and there may be too many values.
    out.all_value(queries.ALL).current(models.VariableOption(text=["All"], value=["$__all"]))
    # Read once: reading them at every refresh would drop a choice whose rows have left the time range.
    return out.refresh(models.VariableRefresh.ON_DASHBOARD_LOAD).sort(models.VariableSort.DISABLED)


def _given(variable: Variable, param: Param) -> cog.Builder[models.VariableModel]:
    """What a dataset must be told: chosen where its values are known, else written."""
    if not param.options:
        empty = models.VariableOption(text="", value="")
        text = builders.TextBoxVariable(variable.name).label(param.name).description(param.description)
        return text.default_value("").current(empty).options([empty])
    first = param.options[0]
    values = ",".join(option.replace("\\", "\\\\").replace(",", "\\,") for option in param.options)
    choice = builders.CustomVariable(variable.name).label(param.name).description(param.description).values(values)
    one = models.VariableOption(text=first, value=first)
    return choice.multi(param.multi).current(
        models.VariableOption(text=[first], value=[first]) if param.multi else one
    )


def _label(variable: Variable, catalogue: Catalogue) -> str:
    """The dimension's own name, with its source where another source has a dimension of that name."""
    alike = [item for item in catalogue.variables if item.word == variable.word]
    return variable.word if len(alike) == 1 else f"{variable.word} ({variable.source})"


def _annotation(catalogue: Catalogue, dataset: Dataset) -> builders.AnnotationQuery:
    query = Query(queries.shaped_model(catalogue, dataset, ref_id="Anno"))
    out = builders.AnnotationQuery().name(dataset.name).datasource(reference()).enable(True)
    return out.icon_color(ANNOTATION_COLOR).target(query)
