"""The files of a relay data set: PNGs, and annotations in COCO's format."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from iopath.common.file_io import file_lock
from PIL import Image

from .scenes import draw_image
from .spec import KEYPOINTS, SPLITS, Relay


def cache_folder(relay: Relay) -> Path:
    """Folder of the data set's files below NL_DETECTRON_CACHE, by default ~/.cache/nl_detectron.

    Its name depends on the settings and on the source code of this package, so that a changed
    generator writes another folder.
    """
    return cache_path("relay", Path(__file__).parent, asdict(relay))


def cache_path(name: str, package: Path, settings: dict) -> Path:
    """Folder ``name-KEY`` in the cache, where the key is of a package's code and of settings."""
    root = os.environ.get("NL_DETECTRON_CACHE") or Path.home() / ".cache" / "nl_detectron"
    source = b"".join(path.read_bytes() for path in sorted(package.glob("*.py")))
    key = sha256(source + json.dumps(settings).encode()).hexdigest()[:12]
    return Path(root).expanduser() / f"{name}-{key}"


def write_dataset(relay: Relay, folder: Path | None = None) -> Path:
    """Write the PNGs and the annotations unless they exist already, and return their folder.

    One process writes; others that want the same folder wait for it.

    Args:
        folder: by default :func:`cache_folder`.
    """
    folder = folder or cache_folder(relay)

    def write(temporary: Path) -> None:
        for split in SPLITS:
            _write_split(relay, temporary, split)

    write_once(folder, write)
    return folder


def write_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with an empty folder that becomes ``folder``, unless that exists.

    One process writes; others that want the same folder wait for it.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(folder)):
            if not folder.exists():  # no other process wrote it while this one waited
                _write_whole(folder, write)


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary folder and rename it, so that an existing folder is always complete.

    Only the process with the folder's lock calls it: an older temporary folder is of a killed one.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    temporary.chmod(0o755)  # a cache may be shared
    try:
        write(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(relay: Relay, folder: Path, split: str) -> None:
    (folder / split).mkdir()
    images, annotations = [], []
    for number in range(getattr(relay, split)):
        pixels, drawn = draw_image(relay, split, number)
        name = f"{number:05d}.png"
        Image.fromarray(pixels).save(folder / split / name)
        shape = {"height": relay.height, "width": relay.width}
        images.append({"id": number + 1, "file_name": name, **shape})
        for annotation in drawn:
            more = {"id": len(annotations) + 1, "image_id": number + 1}
            annotations.append({**more, **annotation})
    categories = [
        {"id": i, "name": name, "keypoints": KEYPOINTS, "skeleton": [[1, 2], [2, 3]]}
        for i, name in enumerate(relay.classes, 1)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{split}.json").write_text(json.dumps(content))
