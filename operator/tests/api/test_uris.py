"""Which URIs may stand in a spec. (The API server's verdict on the same ones: test_rules_on_the_server.)"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from uri_examples import BAD, GOOD

from lmforge_api.uris import Uri, problem

URI = TypeAdapter[str](Uri)


@pytest.mark.parametrize("uri", GOOD)
def test_a_good_uri_is_taken(uri: str) -> None:
    assert problem(uri) is None
    assert URI.validate_python(uri) == uri


@pytest.mark.parametrize(("uri", "sentence"), BAD, ids=[uri for uri, _ in BAD])
def test_a_bad_uri_is_refused_with_a_sentence(uri: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        URI.validate_python(uri)
    assert sentence in str(refusal.value)


@given(
    st.sampled_from(["pvc://claim", "s3://bucket", "file:///data", "https://example.org", "hf://org/name"]),
    st.lists(st.sampled_from([".", "..", "a", "%2e", "%2E.", "", "b.c", "…"]), min_size=1, max_size=6),
)
def test_no_path_that_goes_up_or_stays_is_taken(start: str, segments: list[str]) -> None:
    uri = "/".join([start, *segments])
    detours = {"", ".", "..", "%2e", "%2E."}
    # A slash at the end is fine: it says that this is a folder.
    bad = any(part in detours for part in segments[:-1]) or segments[-1] in detours - {""}
    assert (problem(uri) is not None) == bad
