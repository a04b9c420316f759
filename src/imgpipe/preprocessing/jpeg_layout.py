"""The layout of a JPEG file: where its coded data is, and which coefficients it holds."""

import re
import struct

from imgpipe.core.errors import UnreadableImageError

# Markers, by ISO/IEC 10918-1, table B.1.
_FILL = 0xFF
_MARKER = re.compile(rb"\xff[^\x00]", re.DOTALL)  # with "\xff+", the search takes 20 times as long
_PROGRESSIVE = 0xC2
_HUFFMAN_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_FRAMES = (*_HUFFMAN_FRAMES, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_HUFFMAN_TABLES = 0xC4
_QUANTIZATION = 0xDB
_RESTARTS = range(0xD0, 0xD8)
_END = 0xD9
_SCAN = 0xDA
_WITHOUT_SEGMENT = (0x00, 0x01, 0xD8, *_RESTARTS)

_ALL_COEFFICIENTS = (1 << 64) - 1
# If zeros are the code of a coefficient, so many zero bytes are hundreds of equal coefficients.
_ZEROS = bytes(64)


class JpegLayout:
    """What the markers of a JPEG file say.

    Raises:
        UnreadableImageError: a part of the file is missing, or was overwritten with zeros.
    """

    def __init__(self, content: bytes) -> None:
        self.pieces: list[tuple[int, int]] = []
        """Start and end of the coded data between two markers; empty if the coding is rare."""
        self.has_one_scan = False
        """Whether the first scan has everything."""
        self.pixels = 0
        """Height times width."""
        self._content = content
        self._is_progressive = False
        self._sent: dict[int, int] = {}  # for each component, a bit for each coefficient
        self._tables: list[bytes] = []  # of Huffman codes
        self._ac_tables: set[int] = set()  # numbers of those that the present scan uses
        try:
            self._read_markers()
        except (IndexError, struct.error):
            raise UnreadableImageError("damaged: a part of the file is missing") from None

    @property
    def is_complete(self) -> bool:
        """Whether the scans have all bits of all coefficients."""
        return all(sent == _ALL_COEFFICIENTS for sent in self._sent.values())

    def _read_markers(self) -> None:
        place = restarts = 0
        while found := _MARKER.search(self._content, place):
            place = found.end() - 1
            while (marker := self._content[place]) == _FILL:
                place += 1
            place += 1
            if self.pieces and marker in _RESTARTS:
                if marker != _RESTARTS[restarts % len(_RESTARTS)]:
                    raise UnreadableImageError("damaged: image data is missing")
                restarts += 1
                place = self._add_piece(place)
            elif marker == _END or self.has_one_scan:
                return
            elif marker not in _WITHOUT_SEGMENT:
                length = max(2, int.from_bytes(self._content[place : place + 2]))
                segment = self._content[place + 2 : place + length]
                place += length
                if marker == _QUANTIZATION:
                    _check_divisors(segment)
                elif marker == _HUFFMAN_TABLES:
                    self._tables.append(segment)
                elif marker == _SCAN:
                    restarts = 0
                    place = self._add_scan(segment, place)
                elif marker in _FRAMES:
                    self.pixels = int.from_bytes(segment[1:3]) * int.from_bytes(segment[3:5])
                    if marker not in _HUFFMAN_FRAMES:
                        return
                    self._is_progressive = marker == _PROGRESSIVE
                    self._sent = {segment[6 + 3 * number]: 0 for number in range(segment[5])}

    def _add_scan(self, segment: bytes, place: int) -> int:
        """Note a scan and its first piece; return the end of the piece."""
        count = segment[0]
        first, last, bits = (segment[1 + 2 * count + offset] for offset in range(3))
        sent = _ALL_COEFFICIENTS
        if self._is_progressive:
            sent = (1 << last + 1) - (1 << first) if bits % 16 == 0 else 0
        for component in segment[1 : 1 + 2 * count : 2]:
            self._sent[component] = self._sent.get(component, 0) | sent
        if not self.pieces:
            self.has_one_scan = self.is_complete and not self._is_progressive
        self._ac_tables = {numbers % 16 for numbers in segment[2 : 2 + 2 * count : 2]}
        return self._add_piece(place)

    def _add_piece(self, start: int) -> int:
        found = _MARKER.search(self._content, start)
        end = found.start() if found else len(self._content)
        if self._content.find(_ZEROS, start, end) >= 0 and not self._may_have_zeros():
            raise UnreadableImageError("damaged: zeros in place of image data")
        self.pieces.append((start, end))
        return end

    def _may_have_zeros(self) -> bool:
        """Return whether zeros are the code for "no more coefficients" in all tables of a scan."""
        if self._is_progressive:
            return True
        ends_block = {}
        for segment in self._tables:
            place = 0
            while place < len(segment):
                is_ac, number = divmod(segment[place], 16)
                if is_ac:  # the first symbol has the shortest code, which is zeros
                    ends_block[number] = segment[place + 17] == 0
                place += 17 + sum(segment[place + 1 : place + 17])
        return all(ends_block.get(number, True) for number in self._ac_tables)


def _check_divisors(segment: bytes) -> None:
    """Check the tables of a segment: libjpeg accepts 0, and loses what it stands for."""
    place = 0
    while place < len(segment):
        is_wide = segment[place] >= 16
        start, place = place + 1, place + (129 if is_wide else 65)
        numbers = segment[start:place]
        if 0 in (struct.unpack(">64H", numbers) if is_wide else numbers):
            raise UnreadableImageError("damaged: zeros in the tables of the image data")
