from __future__ import annotations

import pytest

from bridge.edge.address import check_address, check_path, encode_segment, parse_base, read_url, shown
from bridge.errors import AddressRefused, BadQuery

NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.51.100.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "::127.0.0.1",
    "64:ff9b:1::1",
    "5f00::1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:100.100.100.200",
    "64:ff9b::169.254.169.254",
    "64:ff9b::",
    "2002:a9fe:a9fe::1",
    "2002:e000:1::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:808:808::5601:5601",
]
LOCAL = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::1",
    "2002:c0a8:101::1",
    "2001:0:7f00:1::f5f5:f5f5",
]
PUBLIC = [
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2001:0:808:808::f7f7:f7f7",
]


@pytest.mark.parametrize("ip", NEVER)
@pytest.mark.parametrize("private_ok", [True, False])
def test_metadata_link_local_and_reserved_addresses_are_refused_whatever_the_settings_say(ip, private_ok):
    with pytest.raises(AddressRefused) as caught:
        check_address(ip, private_ok=private_ok)
    assert caught.value.remedy


@pytest.mark.parametrize("ip", LOCAL)
def test_loopback_and_private_addresses_are_reached_only_where_the_settings_name_them(ip):
    check_address(ip, private_ok=True)
    with pytest.raises(AddressRefused, match="settings do not name it") as caught:
        check_address(ip, private_ok=False)
    assert "allow_private" in caught.value.remedy


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_are_reached(ip):
    check_address(ip, private_ok=False)


def test_what_is_no_address_is_refused():
    with pytest.raises(AddressRefused, match="not an address"):
        check_address("0x7f.1", private_ok=True)


@pytest.mark.parametrize(
    ("url", "origin", "path", "private_ok"),
    [
        ("http://127.0.0.1:8010", "http://127.0.0.1:8010", "", True),
        ("http://[::1]:8010/a/", "http://[::1]:8010", "/a/", True),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]", "", True),
        ("HTTP://LocalHost/x", "http://localhost", "/x", True),
        ("http://10.1.2.3", "http://10.1.2.3", "", True),
        ("http://[fd12::1]", "http://[fd12::1]", "", True),
        ("https://Data.Example:443/v1", "https://data.example", "/v1", False),
        ("http://data.example:80", "http://data.example", "", False),
        ("http://data.example:443", "http://data.example:443", "", False),
        ("http://my_app.internal", "http://my_app.internal", "", False),
        ("http://app.localhost", "http://app.localhost", "", False),
        ("http://xn--bcher-kva.example/%C3%BC", "http://xn--bcher-kva.example", "/%C3%BC", False),
        ("http://8.8.8.8", "http://8.8.8.8", "", False),
    ],
)
def test_a_far_server_is_named_by_a_plain_url_and_a_literal_names_its_own_place(url, origin, path, private_ok):
    base = parse_base(url)
    assert (base.origin, base.path, base.private_ok) == (origin, path, private_ok)
    assert parse_base(url, allow_private=True).private_ok


@pytest.mark.parametrize(
    "url",
    [
        "http://0.0.0.0",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]",
        "http://[fe80::1%25eth0]",
        "http://[fd00:ec2::254]",
        "http://[::ffff:10.0.0.1]",
        "http://[::ffff:a00:1]",
        "http://[::ffff:169.254.169.254]",
        "http://[64:ff9b::7f00:1]",
        "http://[64:ff9b::]",
        "http://2130706433",
        "http://0x7f.1",
        "http://0x7f000001",
        "http://0X7F000001",
        "http://017700000001",
        "http://127.1",
        "http://127.0.0.01",
        "http://127.0.0.1.",
        "http://1.2.3.4.5",
        "http://256.0.0.1",
        "http://localhost.",
        "http://data..example",
        "http://.example",
        "http://-a.example",
        "http://" + "a" * 64 + ".example",
        "http://" + ".".join(["a" * 60] * 5),
        "http://127\u30020.0.1",
        "http://\uff11\uff12\uff17.0.0.1",
        "http://local\u00adhost",
        "http://b\u00fccher.example",
        "http://127%2e0.0.1",
        "http://user@host",
        "http://user:secret@host",
        "http://@host",
        "http://a.example@127.0.0.1",
        "http://a.example\\@127.0.0.1",
        "http://127.0.0.1\\.a.example",
        "http:/127.0.0.1",
        "http:127.0.0.1",
        "//127.0.0.1",
        "127.0.0.1:80",
        "http://",
        "http:///path",
        "http://[::1",
        "http://[:::1]",
        "http://a.example:0",
        "http://a.example:65536",
        "http://a.example:8o",
        "http://a.example:-1",
        "http://a.example/x?q=1",
        "http://a.example/x#f",
        "http://a.example/a b",
        "http://a.example/a\tb",
        "http://a.example/\r\nX: y",
        " http://a.example",
        "http://a.example/../b",
        "http://a.example/%2e%2E/b",
        "http://a.example/%zz",
        "http://a.example/\u00fc",
        "http://a.example/" + "a" * 9_000,
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/x",
        "unix:/var/run/docker.sock",
        "ftp://a.example",
        "javascript://a.example",
        "",
    ],
)
def test_a_url_that_two_readers_could_read_differently_is_refused_at_once(url):
    with pytest.raises(ValueError, match="cannot be used: ") as caught:
        parse_base(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://user:secret@host", "put it under `auth`"),
        ("http://a.example?key=secret", "write queries as parameters"),
        ("http://127.1", "write four numbers"),
        ("http://localhost.", "without a trailing dot"),
        ("http://b\u00fccher.example", "as its DNS name"),
        ("http://a.example/a b", "percent-encode"),
        ("http://[::ffff:10.0.0.1]", "allow_private: true"),
        ("http://169.254.169.254", "link-local address, where metadata services live"),
        ("file:///etc/passwd", "only http:// and https://"),
    ],
)
def test_a_refused_url_is_named_with_what_to_do_about_it(url, remedy):
    with pytest.raises(ValueError, match="cannot be used: ") as caught:
        parse_base(url)
    assert remedy in str(caught.value)


def test_a_url_of_unreasonable_length_is_refused():
    with pytest.raises(ValueError, match="well-formed"):
        read_url("http://a.example/?" + "a" * 9_000)


def test_a_private_address_inside_another_is_used_only_when_private_places_are_allowed():
    assert parse_base("http://[::ffff:10.0.0.1]", allow_private=True).private_ok
    with pytest.raises(ValueError, match="allow_private"):
        parse_base("http://[::ffff:10.0.0.1]")
    with pytest.raises(ValueError, match="metadata"):
        parse_base("http://[::ffff:169.254.169.254]", allow_private=True)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://user:pa/s@s?w@host/x?key=1", "http://host/x"),
        ("http://a.example/\x1b[2J#x", "http://a.example/\\x1b[2J"),
        ("http://a.example/" + "a" * 500, "http://a.example/" + "a" * 183),
    ],
)
def test_a_url_is_shown_without_password_query_and_control_characters(url, text):
    assert shown(url) == text


def test_a_read_url_keeps_its_path_and_query_as_they_were_written():
    url = "http://a.example:8080/a%2Fb/%7e;x=1?q[]=%41&r=a|b"
    assert str(read_url(url)) == url


@pytest.mark.parametrize(
    "path", ["", "/", "/a/b", "/a%2Fb", "/..%2Fadmin", "/a..b/...", "/a:b@c;d=1,2", "//a", "/%c3%bc"]
)
def test_a_well_formed_path_is_sent(path):
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "runs",
        "@evil.example/",
        ":80@evil.example/",
        ".evil.example",
        "/../admin",
        "/a/..",
        "/./a",
        "/a/.",
        "/%2e%2e/admin",
        "/%2E./admin",
        "/.%2e/admin",
        "/%252e%252e/admin",
        "/..;/admin",
        "/..;x=1/admin",
        "/%2e%2e%3b/admin",
        "/" + "%" + "25" * 40 + "2e",
        "/a\\b",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\r\nb",
        "/a\x00b",
        "/a%00b",
        "/a%0d%0ab",
        "/a%7fb",
        "/\u00fc",
        "/a%",
        "/a%g0",
        "/a{x}",
        "/" + "a" * 9_000,
    ],
)
def test_a_path_that_leaves_its_base_or_reads_differently_elsewhere_is_refused(path):
    with pytest.raises(BadQuery):
        check_path(path)


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("svm", "svm"),
        ("../admin", "..%2Fadmin"),
        ("a?b#c", "a%3Fb%23c"),
        ("user@host", "user%40host"),
        ("a/b\\c", "a%2Fb%5Cc"),
        ("50%", "50%25"),
        ("grün x", "gr%C3%BCn%20x"),
    ],
)
def test_a_value_in_a_path_is_one_segment_whatever_it_holds(value, segment):
    assert encode_segment(value) == segment


@pytest.mark.parametrize("value", ["", ".", "..", "%2e%2e", "..;x", "a\nb", "\x00", "\ud800"])
def test_a_value_that_cannot_be_one_plain_segment_is_refused(value):
    with pytest.raises(BadQuery):
        encode_segment(value)
