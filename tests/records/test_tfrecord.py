import contextlib
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipe.core.errors import PipelineError
from imgpipe.records.tfrecord import ExampleDecoder, encode_example, read_records, write_record


def write(path: Path, payloads: list[bytes]) -> bytes:
    stream = io.BytesIO()
    for payload in payloads:
        write_record(stream, payload)
    path.write_bytes(stream.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize("payloads", [[], [b""], [b"a"], [b"abc", b"", b"x" * 70_000]])
def test_records_come_back(tmp_path: Path, payloads: list[bytes]) -> None:
    write(tmp_path / "file", payloads)
    starts, found = zip(*read_records(tmp_path / "file"), strict=True) if payloads else ((), ())
    assert list(found) == payloads
    content = (tmp_path / "file").read_bytes()
    assert [
        content[start : start + len(one)] for start, one in zip(starts, found, strict=True)
    ] == payloads


@given(
    st.dictionaries(
        st.text(max_size=300), st.one_of(st.binary(max_size=300), st.integers(0, 2**63 - 1))
    )
)
def test_examples_come_back(features: dict[str, bytes | int]) -> None:
    assert ExampleDecoder().decode(encode_example(features)) == features


@given(st.dictionaries(st.text(max_size=300), st.binary(max_size=300), min_size=1))
def test_values_are_located(features: dict[str, bytes | int]) -> None:
    decoder, payload = ExampleDecoder(), encode_example(features)
    for name, value in features.items():
        start, end = decoder.locate(payload, name)
        assert payload[start:end] == value
    with pytest.raises(KeyError):
        decoder.locate(payload, "".join(features) + "x")


def test_the_order_of_features_does_not_show() -> None:
    assert encode_example({"b": 1, "a": b"x"}) == encode_example({"a": b"x", "b": 1})


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        encode_example({"label": -1})


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05abc", b"\x0a\x03\x12\x01\x00"])
def test_what_is_no_example_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="Example"):
        ExampleDecoder().decode(payload)


@settings(max_examples=300, deadline=None)
@given(
    places=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
    cut=st.integers(0, 300),
)
def test_whatever_is_wrong_with_an_example_is_a_value_error(
    places: list[int], values: list[int], cut: int
) -> None:
    payload = bytearray(encode_example({"image": bytes(200), "label": 300, "identity": b"a#1"}))
    for place, value in zip(places, values, strict=False):
        payload[place % len(payload)] = value
    with contextlib.suppress(ValueError):
        ExampleDecoder().decode(bytes(payload[: len(payload) - cut % len(payload)]))


@settings(max_examples=300, deadline=None)
@given(
    places=st.lists(st.integers(0, 10**6), max_size=3),
    values=st.lists(st.integers(0, 255), min_size=3, max_size=3),
    label=st.sampled_from([0, 5, 127, 128, 300]),
    identity=st.sampled_from([b"a#1", b"b#22"]),
)
def test_what_was_decoded_before_makes_no_difference(
    places: list[int], values: list[int], label: int, identity: bytes
) -> None:
    decoder = ExampleDecoder()
    for earlier in (7, 299):
        decoder.decode(encode_example({"image": bytes(20), "label": earlier, "identity": b"c#3"}))
    payload = bytearray(encode_example({"image": bytes(20), "label": label, "identity": identity}))
    for place, value in zip(places, values, strict=False):
        payload[place % len(payload)] = value
    try:
        expected = ExampleDecoder().decode(bytes(payload))
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            decoder.decode(bytes(payload))
    else:
        assert decoder.decode(bytes(payload)) == expected


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = write(tmp_path / "file", [b"first record", b"second record"])
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        (tmp_path / "file").write_bytes(damaged)
        with pytest.raises(PipelineError, match=r"file: record [01]: (damaged|cut short)"):
            list(read_records(tmp_path / "file"))
    first_end = 12 + len(b"first record") + 4
    for length in range(1, len(whole)):
        (tmp_path / "file").write_bytes(whole[:length])
        if length == first_end:
            assert list(read_records(tmp_path / "file")) == [(12, b"first record")]
        else:
            with pytest.raises(PipelineError, match=r"damaged|cut short"):
                list(read_records(tmp_path / "file"))


@pytest.mark.tf
def test_tensorflow_writes_and_reads_the_same_bytes(tmp_path: Path) -> None:
    from imgpipe.nn.common.runtime import tf

    features: dict[str, bytes | int] = {
        "image": bytes(range(256)) * 3,
        "label": 300,
        "identity": "Bäume#1".encode(),
    }
    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                if isinstance(value, bytes)
                else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                for name, value in features.items()
            }
        )
    )
    encoded = encode_example(features)
    assert encoded == example.SerializeToString(deterministic=True)
    with tf.io.TFRecordWriter((tmp_path / "theirs").as_posix()) as writer:
        writer.write(encoded)
        writer.write(b"")
    assert write(tmp_path / "ours", [encoded, b""]) == (tmp_path / "theirs").read_bytes()
    assert ExampleDecoder().decode(example.SerializeToString()) == features
