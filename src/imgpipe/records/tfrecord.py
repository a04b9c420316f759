"""TFRecord files and `tf.train.Example` messages, without TensorFlow.

Own code, because `import tensorflow` takes 12 to 14 s of CPU time in each process, and the package
`tfrecord` orders the features differently from process to process.

A record is: length (uint64, little-endian), masked CRC-32C of those 8 bytes (uint32), payload,
masked CRC-32C of the payload.
Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
Messages: tensorflow/core/example/{example,feature}.proto, in the wire format of
https://protobuf.dev/programming-guides/encoding/, with features in the order of their names, so
that equal content gives equal bytes (protobuf's own map order changes from process to process).
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from imgpipe.core.errors import PipelineError

_LENGTH_BYTES = 8
_CRC_BYTES = 4

# Tags of the wire format: field number * 8 + 2 for a length-delimited value, + 0 for an integer.
_EXAMPLE_FEATURES = 0x0A
_FEATURES_ENTRY = 0x0A
_ENTRY_KEY, _ENTRY_VALUE = 0x0A, 0x12
_FEATURE_BYTES, _FEATURE_INT64 = 0x0A, 0x1A
_LIST_BYTES, _LIST_INT64_PACKED, _LIST_INT64 = 0x0A, 0x0A, 0x08
_BYTES_KIND, _UNPACKED_INT64 = bytes((_FEATURE_BYTES,)), bytes((_LIST_INT64,))

_MOST_LAYOUTS = 100  # if the sizes of all values vary, more layouts save nothing


def frame_record(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the parts of a record, in their order: length with checksum, payload, checksum."""
    return _record_head(len(payload)), payload, _masked_crc(payload)


def read_records(path: Path, on_read: Callable[[bytes], object]) -> Iterator[tuple[int, bytes]]:
    """Yield for each record the position of its payload in the file, and the payload.

    `on_read` is called with every part of the file, such as the `update` of a hash.

    Raises:
        PipelineError: the file is missing, a checksum is wrong, or a record is cut short; the line
            names the record.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; run `dvc repro`") from None
    with stream:
        number, start = 0, _LENGTH_BYTES + _CRC_BYTES
        while header := stream.read(_LENGTH_BYTES + _CRC_BYTES):
            size_bytes = int.from_bytes(header[:_LENGTH_BYTES], "little")
            if header != _record_head(size_bytes):
                raise PipelineError(f"{path.as_posix()}: record {number}: damaged length")
            payload, crc = stream.read(size_bytes), stream.read(_CRC_BYTES)
            if len(crc) < _CRC_BYTES:
                raise PipelineError(f"{path.as_posix()}: record {number}: cut short")
            if _masked_crc(payload) != crc:
                raise PipelineError(f"{path.as_posix()}: record {number}: damaged content")
            for part in (header, payload, crc):
                on_read(part)
            yield start, payload
            number += 1
            start += size_bytes + _LENGTH_BYTES + 2 * _CRC_BYTES


def encode_example(features: Mapping[str, bytes | memoryview | int]) -> bytes:
    """Encode a `tf.train.Example` of bytes and non-negative int64 features, one value each."""
    parts = []
    for name in sorted(features):
        value = features[name]
        if not isinstance(value, int):
            parts += [_bytes_entry_head(name, len(value)), value]
        else:
            parts.append(_integer_entry(name, value))
    return b"".join([_head(_EXAMPLE_FEATURES, sum(map(len, parts))), *parts])


class ExampleDecoder:
    """Decodes `tf.train.Example` messages of bytes and int64 features, one value each.

    If a message has the layout of an earlier message of the same length, only its values are read.
    """

    def __init__(self) -> None:
        self._layouts: dict[int, list[_Value]] = {}

    def decode(
        self, payload: bytes, located: str
    ) -> tuple[dict[str, memoryview | int], tuple[int, int]]:
        """Decode one message.

        Returns:
            the values by name, and the byte range of the value of the feature `located`: its first
            byte, and the byte after its last. An int64 is returned as an unsigned number.

        Raises:
            KeyError: the message has no such feature.
            ValueError: the message has another form.
        """
        view = memoryview(payload)
        values: dict[str, memoryview | int] = {}
        place = None
        for name, is_bytes, start, end, *_ in self._layout_of(payload):
            values[name] = view[start:end] if is_bytes else _read_varint(payload, start)[0]
            if name == located:
                place = start, end
        if place is None:
            raise KeyError(located)
        return values, place

    def _layout_of(self, payload: bytes) -> list["_Value"]:
        known = self._layouts.get(len(payload))
        if known is None or not _is_laid_out(payload, known):
            known = _parse_layout(payload)
            if len(self._layouts) < _MOST_LAYOUTS:
                self._layouts[len(payload)] = known
        return known


class _Value(NamedTuple):
    """Where the value of a feature is in a message, and which bytes are before it."""

    name: str
    is_bytes: bool
    start: int
    end: int
    head_start: int
    head: bytes
    """The bytes between the value before and this value."""


def _is_laid_out(payload: bytes, values: list[_Value]) -> bool:
    for _, is_bytes, start, end, head_start, head in values:
        if payload[head_start:start] != head:
            return False
        # The last byte of an integer, and no other, is below 0x80.
        if not is_bytes and _read_varint(payload, start)[1] != end:
            return False
    return True


def _parse_layout(payload: bytes) -> list[_Value]:
    values: list[_Value] = []
    head_start = 0
    position, end = _enter(payload, 0, len(payload), _EXAMPLE_FEATURES)
    _check_end(end, len(payload))
    while position < end:
        entry, entry_end = _enter(payload, position, end, _FEATURES_ENTRY)
        key, key_end = _enter(payload, entry, entry_end, _ENTRY_KEY)
        feature, feature_end = _enter(payload, key_end, entry_end, _ENTRY_VALUE)
        _check_end(feature_end, entry_end)
        name = payload[key:key_end].decode()
        is_bytes = payload[feature : feature + 1] == _BYTES_KIND
        if is_bytes:
            list_start, list_end = _enter(payload, feature, feature_end, _FEATURE_BYTES)
            value, value_end = _enter(payload, list_start, list_end, _LIST_BYTES)
        else:
            list_start, list_end = _enter(payload, feature, feature_end, _FEATURE_INT64)
            if payload[list_start : list_start + 1] == _UNPACKED_INT64:  # as older writers do
                value = list_start + 1
            else:
                value, _ = _enter(payload, list_start, list_end, _LIST_INT64_PACKED)
            _, value_end = _read_varint(payload, value)
        _check_end(value_end, list_end)  # a single value
        _check_end(list_end, feature_end)
        head = payload[head_start:value]
        values.append(_Value(name, is_bytes, value, value_end, head_start, head))
        position = head_start = entry_end
    return values


def _enter(message: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    """Return the byte range of the content of the field at `position`, whose tag must be `tag`."""
    if position + 1 >= end or message[position] != tag:
        raise ValueError(f"an Example has no field with the tag {tag:#04x} at byte {position}")
    size_bytes, start = message[position + 1], position + 2
    if size_bytes > 0x7F:
        size_bytes, start = _read_varint(message, position + 1)
    if start + size_bytes > end:
        raise ValueError("an Example is cut short")
    return start, start + size_bytes


def _check_end(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError("an Example has more than one value in a field")


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


@lru_cache(maxsize=1024)
def _record_head(size_bytes: int) -> bytes:
    length = size_bytes.to_bytes(_LENGTH_BYTES, "little")
    return length + _masked_crc(length)


@lru_cache(maxsize=1024)
def _bytes_entry_head(name: str, size_bytes: int) -> bytes:
    """Return all bytes of a feature's entry before a value of `size_bytes` bytes."""
    in_list = _head(_LIST_BYTES, size_bytes)
    in_feature = _head(_FEATURE_BYTES, len(in_list) + size_bytes) + in_list
    return _entry_head(name, len(in_feature) + size_bytes) + in_feature


@lru_cache(maxsize=1024)
def _integer_entry(name: str, value: int) -> bytes:
    number = _varint(value)
    in_feature = _head(_LIST_INT64_PACKED, len(number)) + number
    feature = _head(_FEATURE_INT64, len(in_feature)) + in_feature
    return _entry_head(name, len(feature)) + feature


def _entry_head(name: str, feature_bytes: int) -> bytes:
    key = _head(_ENTRY_KEY, len(name.encode())) + name.encode()
    entry = key + _head(_ENTRY_VALUE, feature_bytes)
    return _head(_FEATURES_ENTRY, len(entry) + feature_bytes) + entry


def _head(tag: int, size_bytes: int) -> bytes:
    return bytes((tag,)) + _varint(size_bytes)


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
