import pytest

from bridge.sources.builtin.rest.links import next_link


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://a/?page=2>; rel="next"', "https://a/?page=2"),
        ("</x?p=2>; rel=next", "/x?p=2"),
        ('<https://a/1>; rel="prev", <https://a/3>; rel="next"', "https://a/3"),
        ('<https://a/3>; rel="last next"', "https://a/3"),
        ('<https://a/3>; REL="NEXT"', "https://a/3"),
        ('<https://a/1>; title="a, <b>; rel=\\"next\\""; rel=prev,<https://a/3>;rel=next', "https://a/3"),
        ('<https://a/2?a=1,2;3>; rel="next"', "https://a/2?a=1,2;3"),
        ('<https://a/2>; rel="prev"; rel="next"', None),
        ("<https://a/2>; crossorigin; rel=next", "https://a/2"),
        ("<https://a/2> ; rel = next", "https://a/2"),
        ('<https://a/2>; rel="nextish"', None),
        ('<https://a/2>; rev="next"', None),
        ("<https://a/2>", None),
        ("<https://a/2>; rel", None),
        ("nonsense", None),
        ("", None),
        ("<a>; rel=prev,,, <b>; rel=next", "b"),
        ("<>; rel=next", ""),
    ],
)
def test_the_next_page_is_the_first_link_whose_relation_is_next(header: str, target: str | None) -> None:
    assert next_link(header) == target


def test_a_hostile_header_is_read_in_one_go() -> None:
    for header in ("<a>" + "; x" * 2_000, "<a>;" + " " * 8_000, '<a>; x="' + "\\" * 8_000, "<" * 8_000):
        assert next_link(header) is None
