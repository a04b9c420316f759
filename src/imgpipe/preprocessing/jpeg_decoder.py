"""A decoder of JPEG files that finds lost data.

Memory cards and broken copies leave files whose second half is zeros, or whose end is missing.
libjpeg fills what it lacks with gray and counts a warning; Pillow drops the count. libjpeg reads
no more data than the pixels need. So this decoder gives it the coded data piece by piece, and each
piece must be as long as libjpeg needs. That takes no second decoding.
"""

from PIL import Image, ImageFile, _imaging

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.jpeg_layout import JpegLayout

MOST_PIXELS = (1 << 30) // 4 // 3
"""Most pixels of a decoded picture; as in Pillow, which refuses a file of twice as many."""

_NAME = "jpeg_with_all_data"  # in Pillow's registry of decoders
# Bytes of a piece that may be left over. In 3,300 photographs of many cameras, not one is.
_TOLERATED_BYTES = 4
# libjpeg reads up to 8 bytes ahead. These are ones, which are no code, and no marker.
_PADDING = b"\xff\x00" * 8


def find_lost_data(picture: ImageFile.ImageFile) -> None:
    """Let the loading of a JPEG picture report lost data, as an `UnreadableImageError`.

    It also refuses a picture of more than `MOST_PIXELS` of which libjpeg keeps all coefficients in
    memory, because its coding is progressive, or has several scans: 3 to 8 bytes for each pixel.
    """
    picture.tile = [tile._replace(codec_name=_NAME) for tile in picture.tile]


class _JpegDecoder(ImageFile.PyDecoder):
    """Pillow's decoder, with an eye on the number of bytes that it reads."""

    _pulls_fd = True

    def decode(self, _: object) -> tuple[int, int]:
        assert self.fd is not None
        content = self.fd.read()
        layout = JpegLayout(content)
        if layout.pixels > MOST_PIXELS and not layout.has_one_scan:
            raise UnreadableImageError(
                f"more than the limit of {MOST_PIXELS:,} pixels for a progressive JPEG"
            )
        self._is_finished = False
        self._pillow = _imaging.jpeg_decoder(self.mode, *self.args)
        self._pillow.setimage(self.im, self.state.extents())
        try:
            self._decode(memoryview(content), layout)
        finally:
            self._pillow.cleanup()
        return -1, 0

    def _decode(self, content: memoryview, layout: JpegLayout) -> None:
        read = 0
        for number, (start, end) in enumerate(layout.pieces):
            if end - _TOLERATED_BYTES > start:
                read += self._feed(content[read : end - _TOLERATED_BYTES])
                if self._is_finished or not self._needs_coded_data():
                    raise UnreadableImageError("damaged: more image data than pixels")
            is_cut = end == len(content)
            self._feed(bytes(content[read:end]) + (b"" if is_cut else _PADDING))
            if self._is_finished:
                left_over = sum(end - start for start, end in layout.pieces[number + 1 :])
                if left_over > _TOLERATED_BYTES:
                    raise UnreadableImageError("damaged: more image data than pixels")
                return
            if self._needs_coded_data():
                raise UnreadableImageError("damaged: image data is missing")
            read = end
        if not layout.is_complete or layout.has_one_scan:  # one scan is finished above
            raise UnreadableImageError("damaged: image data is missing")
        self._feed(content[read:])
        if not self._is_finished:
            raise UnreadableImageError("damaged: the end of the file is missing")

    def _feed(self, data: bytes | memoryview) -> int:
        """Return the number of bytes that libjpeg has read."""
        read: int
        read, error = self._pillow.decode(data)
        if error:
            raise UnreadableImageError("damaged: broken data stream")
        self._is_finished = read < 0
        return read

    def _needs_coded_data(self) -> bool:
        """Return whether libjpeg waits for coded data, not for a marker.

        Before a marker, libjpeg skips a byte. Of coded data, it reads no single byte.
        """
        return self._feed(b"\0") == 0


Image.register_decoder(_NAME, _JpegDecoder)
