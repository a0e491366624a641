"""What holds of the model's values whatever they are."""

from contextlib import suppress
from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ids import canonical_url
from dragonfly.core.model.piece import MAX_PIECE_COUNT, MAX_PIECE_LENGTH, MIN_PIECE_LENGTH, PieceGeometry, PieceSet
from dragonfly.core.model.piece import piece_length as computed
from dragonfly.core.model.ranges import ByteRange, parse_range_header
from dragonfly.core.model.units import parse_size
from dragonfly.errors import InvalidDigest, InvalidQuantity, InvalidRange, InvalidUrl

numbers = st.sets(st.integers(0, 3000))
small_numbers = st.integers(1, 400)
geometries = st.builds(PieceGeometry, st.integers(0, 4000), small_numbers)
spans = st.builds(ByteRange, st.integers(0, 5000), st.integers(1, 5000))


@given(numbers, numbers, st.integers(0, 3001))
def test_piece_set_behaves_as_a_set(left, right, number):
    ours, theirs = PieceSet(left), PieceSet(right)
    assert set(ours) == left
    assert list(ours) == sorted(left)
    assert len(ours) == len(left)
    assert bool(ours) == bool(left)
    assert (number in ours) == (number in left)
    assert set(ours - theirs) == left - right
    assert set(ours & theirs) == left & right
    assert set(ours | theirs) == left | right
    assert (ours == theirs) == (left == right)


@given(numbers, st.lists(st.tuples(st.booleans(), st.integers(0, 3000))))
def test_piece_set_follows_a_set_through_every_change(start, changes):
    ours, reference = PieceSet(start), set(start)
    for adds, number in changes:
        (ours.add if adds else ours.discard)(number)
        (reference.add if adds else reference.discard)(number)
    assert set(ours) == reference


@given(st.integers(0, 3000))
def test_full_set_is_every_number_below_the_count(count):
    assert set(PieceSet.full(count)) == set(range(count))


@given(geometries)
def test_pieces_cover_the_content_once_and_in_order(geometry):
    offset = 0
    for number in geometry.numbers():
        span = geometry.span(number)
        assert span.start == offset
        offset = span.end
    assert offset == geometry.content_length


@given(geometries, spans)
def test_pieces_of_a_range_are_those_that_share_a_byte_with_it(geometry, span):
    sharing = [number for number in geometry.numbers() if geometry.span(number).overlaps(span)]
    assert list(geometry.pieces_in(span)) == sharing


@given(st.integers(0, MAX_PIECE_COUNT * MAX_PIECE_LENGTH))
def test_computed_piece_length_is_a_bounded_power_of_two(content_length):
    length = computed(content_length)
    assert MIN_PIECE_LENGTH <= length <= MAX_PIECE_LENGTH
    assert length.bit_count() == 1
    assert PieceGeometry.of(content_length).piece_count <= MAX_PIECE_COUNT


@given(spans, st.integers(1, 6000))
def test_header_of_a_range_is_read_back_clamped(span, content_length):
    if span.start < content_length:
        end = min(span.end, content_length)
        assert parse_range_header(span.header(), content_length) == ByteRange(span.start, end - span.start)


@given(st.text("bytes=-0123456789, ", max_size=40) | st.text(), st.integers(0, 2**64))
def test_range_header_is_within_the_content_or_refused(text, content_length):
    """Attacks 33 and 43."""
    try:
        span = parse_range_header(text, content_length)
    except InvalidRange:
        return
    assert span.end <= content_length


@given(st.text())
def test_size_is_read_or_refused_but_never_crashes(text):
    """Attack 43."""
    with suppress(InvalidQuantity):
        assert parse_size(text) >= 0


@given(
    st.text()
    | st.builds(
        "{}:{}".format, st.sampled_from(["crc32", "sha256", "sha512", "blake3", "md5"]), st.text("0123456789af _-")
    )
)
def test_digest_is_read_in_one_spelling_or_refused(text):
    """Attack 43."""
    with suppress(InvalidDigest):
        digest = Digest.parse(text)
        assert Digest.parse(str(digest)) == digest


query_texts = st.text(st.sampled_from("ab=&+%~ ;é?/#\udcff2F") | st.characters(), max_size=30)


@given(query_texts)
def test_canonical_url_is_a_fixed_point(query):
    """Attacks 31 and 43: two spellings of one URL are one task."""
    try:
        once = canonical_url(f"https://example.com/x?{query}")
    except InvalidUrl:
        return
    assert canonical_url(once) == once


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))), min_size=1))
def test_parameters_survive_where_none_is_filtered(pairs):
    """Attack 31."""
    url = canonical_url(f"https://example.com/x?{urlencode(pairs)}")
    assert parse_qsl(url.partition("?")[2], keep_blank_values=True) == pairs
