"""The page of a TIFF file that is the picture, not a small copy of it."""

from PIL.TiffImagePlugin import TiffImageFile

from imgpipe.core.errors import UnreadableImageError

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SUB_IFDS = 254, 255, 330
_REDUCED_OR_MASK = 1 | 4  # bits of NewSubfileType
_OLD_REDUCED = 2  # the value of SubfileType


def seek_full_picture(picture: TiffImageFile) -> None:
    """Go to the first page that is not marked as a reduced copy or a mask; stay if all pages are.

    Raises:
        UnreadableImageError: the full picture is in a part of the file that is not read.
    """
    page = 0
    while _is_no_picture(picture):
        page += 1
        try:
            picture.seek(page)
        except EOFError:
            picture.seek(0)
            if _SUB_IFDS in picture.tag_v2:
                raise UnreadableImageError(
                    "its pages are reduced copies, and the full picture is in a SubIFD;"
                    " save it as a TIFF with the full picture as a page"
                ) from None
            return


def _is_no_picture(picture: TiffImageFile) -> bool:
    tags = picture.tag_v2
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK) or tags.get(_SUBFILE_TYPE) == (
        _OLD_REDUCED
    )
