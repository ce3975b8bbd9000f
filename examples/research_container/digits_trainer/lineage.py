"""Where results come from, as a graph: data set → split → model → grid point with its best run."""

from __future__ import annotations

from digits_trainer.grid import MODELS, Point
from digits_trainer.store import Item, Store

DATA, SPLIT = "digits", "split"


def _point_id(point: Point) -> str:
    return f"{point.model} {point.text}"


def nodes(store: Store, places: tuple[Point, ...]) -> list[Item]:
    """All places of the graph. They are the same from the first moment, so edges never lead nowhere."""
    found = [
        _node(DATA, "digits", "1797 images of 8x8 pixels"),
        _node(SPLIT, "split", "70 % training, 30 % validation, by seed"),
    ]
    for model in MODELS:
        best = store.best(model)
        found.append(_node(model, model, f"best: {best['id']}" if best else "no run yet", best))
    for point in places:
        best = store.best(point.model, point.params)
        found.append(_node(_point_id(point), point.text, f"best: {best['id']}" if best else "planned", best))
    return found


def edges(places: tuple[Point, ...]) -> list[Item]:
    """Which place feeds which."""
    pairs = [(DATA, SPLIT), *((SPLIT, model) for model in MODELS)]
    pairs += [(point.model, _point_id(point)) for point in places]
    return [{"id": f"{source} > {target}", "source": source, "target": target} for source, target in pairs]


def _node(name: str, title: str, subtitle: str, best: Item | None = None) -> Item:
    accuracy = best["accuracy"] if best else None
    return {"id": name, "title": title, "subtitle": subtitle, "mainstat": accuracy}
