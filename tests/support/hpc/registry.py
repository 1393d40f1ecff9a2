"""A registry of one image on this machine, with the protocol of a real one.

The image is a root file system. So `Bootstrap: docker` of apptainer.def is really followed, also
where no public registry can be reached.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Image:
    """An image in the format of the Open Container Initiative (OCI)."""

    blobs: dict[str, bytes]  # by digest, the manifest among them
    manifest: str  # its digest


def image_of_tar(tar: Path) -> Image:
    """The image of a root file system: one layer, no command."""
    plain = tar.read_bytes()
    layer = gzip.compress(plain, compresslevel=1, mtime=0)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [path, "LANG=C.UTF-8"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(plain)]},
    }
    config_blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": _digest(config_blob), "size": len(config_blob)},
        "layers": [{"mediaType": LAYER, "digest": _digest(layer), "size": len(layer)}],
    }
    manifest_blob = json.dumps(manifest).encode()

    blobs = {_digest(blob): blob for blob in (layer, config_blob, manifest_blob)}
    return Image(blobs, _digest(manifest_blob))


@contextlib.contextmanager
def serving(image: Image) -> Iterator[str]:
    """host:port of a registry that gives this image under whatever name and tag it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            *_, kind, reference = self.path.partition("?")[0].rstrip("/").rsplit("/", 2)
            is_tag = kind == "manifests" and not reference.startswith("sha256:")
            digest = image.manifest if is_tag else reference
            blob = b"{}" if reference == "v2" else image.blobs.get(digest)
            self.send_response(404 if blob is None else 200)
            content = MANIFEST if kind == "manifests" else "application/octet-stream"
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(blob or b"")))
            self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if with_body:
                # Some clients say GET, and hang up after the head.
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(blob or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()
