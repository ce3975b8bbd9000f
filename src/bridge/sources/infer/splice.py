"""One more source in the text of a settings file, which keeps every character it has."""

from __future__ import annotations

import yaml

from bridge.errors import BadRequest
from bridge.sources.infer.stanza import SourceGuess, flow, items_yaml


def spliced(text: str, source: SourceGuess) -> str:
    """The text with the source at the end of its list of sources.

    Errors: BadRequest when the text is no mapping of sections, or has no place for it.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadRequest("the settings file is no YAML", remedy="`bridge check` says where") from error
    if root is None:
        return _appended(text, source.yaml(), newline)
    if not isinstance(root, yaml.MappingNode):
        raise BadRequest("the settings file holds no sections", remedy="begin it with `sources:`")
    here = next((value for key, value in root.value if key.value == "sources"), None)
    if here is None:
        if root.flow_style:
            raise _no_place()
        return _appended(text, source.yaml(), newline)
    return _listed(text, here, source, newline)


def _no_place() -> BadRequest:
    return BadRequest(
        "the settings file is written in braces, and a source cannot be put in without changing more of it",
        remedy="leave --write out and put the source in by hand",
    )


def _listed(text: str, here: yaml.Node, source: SourceGuess, newline: str) -> str:
    if isinstance(here, yaml.ScalarNode) and not here.value.strip("~").replace("null", ""):
        # `sources:` without a value, or with null.
        return _below(_cut(text, here), here.start_mark.index, source, newline)
    if not isinstance(here, yaml.SequenceNode):
        raise _no_place()
    if not here.value:
        return _below(_cut(text, here), here.start_mark.index, source, newline)
    if here.flow_style:
        close = here.end_mark.index - 1
        return f"{text[:close]}, {flow(source.settings())}{text[close:]}"
    indent = " " * here.start_mark.column
    return _inserted(text, _end(here.value[-1], text), items_yaml(source, indent), newline)


def _cut(text: str, node: yaml.Node) -> str:
    """The text without this value and the space before it."""
    return text[: node.start_mark.index].rstrip(" ") + text[node.end_mark.index :]


def _below(text: str, near: int, source: SourceGuess, newline: str) -> str:
    """The source below the line on which `sources:` stands without a value."""
    at = text.rfind("sources", 0, near + len("sources"))
    end = text.find("\n", at)
    return _inserted(text, len(text) if end < 0 else end + 1, items_yaml(source, "  "), newline)


def _end(node: yaml.Node, text: str) -> int:
    """Where the line after the last value begins; a block's own end would lie behind the comments that follow it."""
    while isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    if node.end_mark.column == 0 and isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return int(node.end_mark.index)
    end = text.find("\n", node.end_mark.index)
    return len(text) if end < 0 else end + 1


def _inserted(text: str, at: int, lines: str, newline: str) -> str:
    before = text[:at]
    gap = newline if before and not before.endswith("\n") else ""
    return before + gap + lines.replace("\n", newline) + text[at:]


def _appended(text: str, lines: str, newline: str) -> str:
    gap = "" if not text.strip() else "\n" if text.endswith("\n") else "\n\n"
    return text + (gap + lines).replace("\n", newline)
