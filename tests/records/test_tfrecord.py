import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipe.core.errors import PipelineError
from imgpipe.records.tfrecord import (
    ExampleDecoder,
    encode_example,
    frame_record,
    read_records,
)


def write(path: Path, payloads: list[bytes]) -> bytes:
    content = b"".join(part for payload in payloads for part in frame_record(payload))
    path.write_bytes(content)
    return content


def read(path: Path) -> list[tuple[int, bytes]]:
    return list(read_records(path, hashlib.sha256().update))


def decode(payload: bytes, decoder: ExampleDecoder | None = None) -> dict[str, bytes | int]:
    """Decode an example that has a feature `image`; return its values as plain ones."""
    values, _ = (decoder or ExampleDecoder()).decode(payload, "image")
    return {name: it if isinstance(it, int) else bytes(it) for name, it in values.items()}


@pytest.mark.parametrize("payloads", [[], [b""], [b"a"], [b"abc", b"", b"x" * 70_000]])
def test_records_read_back_with_their_positions(tmp_path: Path, payloads: list[bytes]) -> None:
    content = write(tmp_path / "file", payloads)
    digest = hashlib.sha256()
    found = list(read_records(tmp_path / "file", digest.update))
    assert [payload for _, payload in found] == payloads
    assert [content[start : start + len(payload)] for start, payload in found] == payloads
    assert digest.digest() == hashlib.sha256(content).digest()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="file: not found; run `dvc repro`"):
        read(tmp_path / "file")


@given(
    st.dictionaries(
        st.text(max_size=300), st.one_of(st.binary(max_size=300), st.integers(0, 2**63 - 1))
    )
)
def test_examples_read_back(features: dict[str, bytes | int]) -> None:
    features["image"] = b"pixels"
    assert decode(encode_example(features)) == features


@given(st.dictionaries(st.text(max_size=300), st.binary(max_size=300), min_size=1))
def test_values_are_located(features: dict[str, bytes | int]) -> None:
    decoder, payload = ExampleDecoder(), encode_example(features)
    for name, value in features.items():
        _, (start, end) = decoder.decode(payload, name)
        assert payload[start:end] == value
    with pytest.raises(KeyError):
        decoder.decode(payload, "".join(features) + "x")


def test_features_are_in_the_order_of_their_names() -> None:
    assert encode_example({"b": 1, "a": b"x"}) == encode_example({"a": b"x", "b": 1})


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        encode_example({"label": -1})


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05abc", b"\x0a\x03\x12\x01\x00"])
def test_a_message_of_another_type_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="Example"):
        decode(payload)


@given(
    places=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
    cut=st.integers(0, 300),
)
def test_a_damaged_example_raises_a_value_or_a_key_error(
    places: list[int], values: list[int], cut: int
) -> None:
    payload = bytearray(encode_example({"image": bytes(200), "label": 300, "identity": b"a#1"}))
    for place, value in zip(places, values, strict=False):
        payload[place % len(payload)] = value
    with contextlib.suppress(ValueError, KeyError):
        found = decode(bytes(payload[: len(payload) - cut % len(payload)]))
        assert "image" in found


@given(
    places=st.lists(st.integers(0, 10**6), max_size=3),
    values=st.lists(st.integers(0, 255), min_size=3, max_size=3),
    label=st.sampled_from([0, 5, 127, 128, 300]),
    identity=st.sampled_from([b"a#1", b"b#22"]),
)
def test_decoding_does_not_depend_on_earlier_messages(
    places: list[int], values: list[int], label: int, identity: bytes
) -> None:
    decoder = ExampleDecoder()
    for earlier in (7, 299):
        decode(encode_example({"image": bytes(20), "label": earlier, "identity": b"c#3"}), decoder)
    payload = bytearray(encode_example({"image": bytes(20), "label": label, "identity": identity}))
    for place, value in zip(places, values, strict=False):
        payload[place % len(payload)] = value
    try:
        expected = decode(bytes(payload))
    except (ValueError, KeyError) as error:
        with pytest.raises(type(error)):
            decode(bytes(payload), decoder)
    else:
        assert decode(bytes(payload), decoder) == expected


def test_every_flipped_bit_and_every_cut_within_a_record_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = write(path, [b"first record", b"second record"])
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(PipelineError, match=r"file: record [01]: (damaged|cut short)"):
            read(path)
    first_end = 12 + len(b"first record") + 4
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        if length == first_end:  # `info.json` has the number of records and the hash for this
            assert read(path) == [(12, b"first record")]
        else:
            with pytest.raises(PipelineError, match=r"damaged|cut short"):
                read(path)


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
    assert decode(example.SerializeToString()) == features
