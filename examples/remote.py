"""Decode a part of an .igs picture on a web server, fetching only the bytes that it needs.

    python examples/remote.py https://example.org/map.igs part.png --region 350,160,96,64

igs.open takes anything with seek and read; here that is an HTTP client that asks for ranges of bytes. The first request
is large enough for most heads (spec §2), so that opening takes one. Prints requests and bytes. Needs no PyTorch.
"""

from __future__ import annotations

import argparse
import re
import urllib.request

from PIL import Image

import igs

FIRST = 16384  # bytes of the first request


class RemoteFile:
    """The file behind a URL, read by range requests. The first bytes are kept; what else is read is not."""

    def __init__(self, url: str, first: int = FIRST) -> None:
        self.url, self.requests, self.fetched, self.position = url, 0, 0, 0
        self.start, self.length = self._fetch(0, first)

    def _fetch(self, start: int, count: int) -> tuple[bytes, int]:
        """Bytes from ``start`` on, and the length of the whole file."""
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={start}-{start + count - 1}"})
        with urllib.request.urlopen(request) as answer:
            stated = re.fullmatch(rf"bytes {start}-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if answer.status != 206 or stated is None:  # it would send the whole file
                raise SystemExit(
                    f"{self.url}: expected a server that sends parts of a file, found status {answer.status}"
                )
            data = answer.read(count)
        self.requests += 1
        self.fetched += len(data)
        return data, int(stated[1])

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file; whence: 0 from the start, 2 from the end."""
        self.position = offset + (self.length if whence == 2 else 0)
        return self.position

    def tell(self) -> int:
        """Where the next read begins."""
        return self.position

    def read(self, count: int) -> bytes:
        """At most so many bytes; fewer at the end of what is kept."""
        data = self.start[self.position : self.position + count]
        if not data and self.position < self.length:
            data, _ = self._fetch(self.position, count)
        self.position += len(data)
        return data


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode a part of an .igs picture on a web server.")
    parser.add_argument("url", help="of an .igs file of one or three channels")
    parser.add_argument("output", help="the picture to write")
    parser.add_argument("--region", default="350,160,96,64", help="x,y,width,height in pixels of the picture")
    parser.add_argument("--scale", type=float, default=1.0, help="output pixels per pixel")
    parser.add_argument("--first", type=int, default=FIRST, help="bytes of the first request")
    arguments = parser.parse_args()
    x, y, width, height = (float(number) for number in arguments.region.split(","))
    file = RemoteFile(arguments.url, arguments.first)
    with igs.open(file) as im:
        pixels = im.region(x, y, width, height, scale=arguments.scale)  # [rows, columns, channels] uint8
    print(
        f"{pixels.shape[1]}×{pixels.shape[0]} pixels: {file.requests} requests, {file.fetched} of {file.length} bytes"
    )
    Image.fromarray(pixels.squeeze()).save(arguments.output)


if __name__ == "__main__":
    main()
