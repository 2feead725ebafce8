"""Pictures as data URIs."""

import base64

KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
"""First bytes of encoded pictures, and their media types; any other is WebP."""


def data_uri(picture: bytes) -> str:
    """An encoded picture, PNG, JPEG, GIF or WebP, as a data URI."""
    kind = next((kind for start, kind in KINDS if picture.startswith(start)), "webp")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
