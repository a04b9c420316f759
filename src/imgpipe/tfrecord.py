"""TFRecord files and `tf.train.Example` messages, without TensorFlow.

A record is: length (uint64, little-endian), masked CRC-32C of those 8 bytes (uint32), payload,
masked CRC-32C of the payload.
Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
Messages: tensorflow/core/example/{example,feature}.proto, in the wire format of
https://protobuf.dev/programming-guides/encoding/, with features in the order of their names, so
that equal content gives equal bytes (protobuf's own map order changes from process to process).
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from imgpipe.errors import PipelineError

_LENGTH_BYTES = 8
_CRC_BYTES = 4

# Tags of the wire format: field number * 8 + 2 for a length-delimited value, + 0 for an integer.
_EXAMPLE_FEATURES = 0x0A
_FEATURES_ENTRY = 0x0A
_ENTRY_KEY, _ENTRY_VALUE = 0x0A, 0x12
_FEATURE_BYTES, _FEATURE_INT64 = 0x0A, 0x1A
_LIST_BYTES, _LIST_INT64_PACKED, _LIST_INT64 = 0x0A, 0x0A, 0x08
_BYTES_KIND, _UNPACKED_INT64 = bytes((_FEATURE_BYTES,)), bytes((_LIST_INT64,))


def write_record(stream: BinaryIO, payload: bytes) -> int:
    """Append one record; return its size in bytes."""
    length = struct.pack("<Q", len(payload))
    stream.write(length + _masked_crc(length))
    stream.write(payload)
    stream.write(_masked_crc(payload))
    return len(payload) + _LENGTH_BYTES + 2 * _CRC_BYTES


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payload of each record.

    Raises:
        PipelineError: a checksum is wrong or the file is cut short; the line names the record.
    """
    with path.open("rb") as stream:
        number = 0
        while header := stream.read(_LENGTH_BYTES + _CRC_BYTES):
            length = header[:_LENGTH_BYTES]
            if _masked_crc(length) != header[_LENGTH_BYTES:]:
                raise PipelineError(f"{path.as_posix()}: record {number}: damaged length")
            size_bytes: int = struct.unpack("<Q", length)[0]
            payload, crc = stream.read(size_bytes), stream.read(_CRC_BYTES)
            if len(crc) < _CRC_BYTES:
                raise PipelineError(f"{path.as_posix()}: record {number}: cut short")
            if _masked_crc(payload) != crc:
                raise PipelineError(f"{path.as_posix()}: record {number}: damaged content")
            yield payload
            number += 1


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """Encode a `tf.train.Example` of bytes and non-negative int64 features, one value each."""
    entries = []
    for name in sorted(features):
        value = features[name]
        if isinstance(value, bytes):
            feature = _field(_FEATURE_BYTES, _field(_LIST_BYTES, [value]))
        else:
            feature = _field(_FEATURE_INT64, _field(_LIST_INT64_PACKED, [_varint(value)]))
        entry = _field(_ENTRY_KEY, [name.encode()]) + _field(_ENTRY_VALUE, feature)
        entries += _field(_FEATURES_ENTRY, entry)
    return b"".join(_field(_EXAMPLE_FEATURES, entries))


def decode_example(payload: bytes) -> dict[str, memoryview | int]:
    """Decode a `tf.train.Example` of bytes and int64 features, one value each.

    Raises:
        ValueError: the message has another form.
    """
    features: dict[str, memoryview | int] = {}
    view = memoryview(payload)
    position, end = _enter(payload, 0, len(payload), _EXAMPLE_FEATURES)
    _check_end(end, len(payload))
    while position < end:
        entry, entry_end = _enter(payload, position, end, _FEATURES_ENTRY)
        key, key_end = _enter(payload, entry, entry_end, _ENTRY_KEY)
        feature, feature_end = _enter(payload, key_end, entry_end, _ENTRY_VALUE)
        _check_end(feature_end, entry_end)
        name = payload[key:key_end].decode()
        if payload[feature : feature + 1] == _BYTES_KIND:
            values, values_end = _enter(payload, feature, feature_end, _FEATURE_BYTES)
            value, value_end = _enter(payload, values, values_end, _LIST_BYTES)
            features[name] = view[value:value_end]
        else:
            values, values_end = _enter(payload, feature, feature_end, _FEATURE_INT64)
            if payload[values : values + 1] == _UNPACKED_INT64:  # as older writers do
                features[name], value_end = _read_varint(payload, values + 1)
            else:
                value, _ = _enter(payload, values, values_end, _LIST_INT64_PACKED)
                features[name], value_end = _read_varint(payload, value)
        _check_end(value_end, values_end)  # a single value
        _check_end(values_end, feature_end)
        position = entry_end
    return features


def _enter(message: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    """Return where the content of the field at `position`, which bears `tag`, begins and ends."""
    if position + 1 >= end or message[position] != tag:
        raise ValueError(f"no field with the tag {tag:#04x} in an Example where it should be")
    size_bytes, start = message[position + 1], position + 2
    if size_bytes > 0x7F:
        size_bytes, start = _read_varint(message, position + 1)
    if start + size_bytes > end:
        raise ValueError("an Example is cut short")
    return start, start + size_bytes


def _check_end(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError("more than a single value in a field of an Example")


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _field(tag: int, parts: list[bytes]) -> list[bytes]:
    """Return a field in parts, so that a large value is copied once, when all are joined."""
    return [bytes((tag,)) + _varint(sum(map(len, parts))), *parts]


def _varint(number: int) -> bytes:
    if number < 0:
        raise ValueError(f"expected a non-negative integer; found {number}")
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if position >= len(message):
            raise ValueError("an Example is cut short")
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
