"""Reads the container of a picture file, within limits, before a decoder sees the file.

`open_container(file_format, data)` walks through the parts of a file (segments, chunks, blocks, boxes). It returns the size
of the picture and the parts that the decoder needs. It drops the rest: texts that decompress to a thousand times their
size, colour profiles, later frames. Nothing here decodes a pixel, and nothing is shared between threads.

    contents.py              the result, and the limit on the number of parts
    formats.py               finds the format and its parser
    jpeg, png, gif, webp     one parser each
    avif, av1                AVIF: the real size is in the AV1 data inside the boxes
    heic                     HEIC, the format of photos of phones; its decoder is optional
    boxes                    the boxes of both
    exif.py                  the orientation
"""

from model.containers.contents import Contents
from model.containers.exif import exif_orientation
from model.containers.formats import open_container, picture_format

__all__ = ["Contents", "exif_orientation", "open_container", "picture_format"]
