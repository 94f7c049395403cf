"""What stands around the pixels of a picture: read here, bounded, before a decoder sees the file.

`open_container(data)` walks through the parts of a file (segments, chunks, blocks, boxes) and says how large a picture it
makes and what of the file the decoder needs. The rest stays behind: texts that decompress to a thousand times their
size, colour profiles, further frames. Nothing here decodes a pixel, and nothing is shared between threads.

    contents.py              what comes out, and the bound on the parts
    jpeg, png, gif, webp     one walk each
    avif, av1                AVIF keeps the truth about its size in the AV1 data inside its boxes
    exif.py                  the orientation
"""

from model.containers.contents import Contents
from model.containers.exif import exif_orientation
from model.containers.formats import open_container, picture_format

__all__ = ["Contents", "exif_orientation", "open_container", "picture_format"]
