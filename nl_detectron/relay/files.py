"""The files of a relay data set: PNGs, and annotations in COCO's format."""

import glob
import json
import os
import shutil
import tempfile
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
    root = os.environ.get("NL_DETECTRON_CACHE") or Path.home() / ".cache" / "nl_detectron"
    sources = sorted(Path(__file__).parent.glob("*.py"))
    source = b"".join(path.read_bytes() for path in sources)
    key = sha256(source + json.dumps(asdict(relay)).encode()).hexdigest()[:12]
    return Path(root).expanduser() / f"relay-{key}"


def write_dataset(relay: Relay, folder: Path | None = None) -> Path:
    """Write the PNGs and the annotations unless they exist already, and return their folder.

    One process writes; others that want the same folder wait for it.

    Args:
        folder: by default :func:`cache_folder`.
    """
    folder = folder or cache_folder(relay)
    if not folder.exists():
        with file_lock(str(folder)):
            if not folder.exists():  # no other process wrote it while this one waited
                _write_whole(relay, folder)
    return folder


def _write_whole(relay: Relay, folder: Path) -> None:
    """Write to a temporary folder and rename it, so that an existing folder is always complete.

    Only the process with the folder's lock calls it: an older temporary folder is of a killed one.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    temporary.chmod(0o755)  # a cache may be shared
    try:
        for split in SPLITS:
            _write_split(relay, temporary, split)
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
