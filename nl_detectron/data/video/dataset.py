"""A data set of videos, from the command line to Detectron2's catalogs."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import UsageError
from ..registration import is_registered, parse_argument
from ..validation.values import leaves_folder
from .lists import ENDINGS, VideoList, class_names, class_numbers, find_files, read_list

FORM = "NAME=LIST.txt:VIDEO_FOLDER"
ARGUMENT = re.compile(
    rf"(?P<name>[\w.-]+)=(?P<files>.+?({'|'.join(map(re.escape, ENDINGS))})):(?P<videos>.+)"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """Contents of a data set of videos.

    Attributes:
        classes: names in the order of the model's classes.
        multi_label: whether a video has any number of classes.
        videos: number of videos.
        outside: paths that lead out of the video folder.
    """

    classes: tuple[str, ...]
    multi_label: bool
    videos: int
    outside: tuple[str, ...]


@dataclass(frozen=True)
class VideoDataset:
    """A data set: its name in configs, its list and its folder.

    The list is read once.

    Attributes:
        files: the list, or several with "+" between them, as Charades' trainval.
        classes_of: lists with which this one shares its classes, such as that of training.
    """

    name: str
    files: str
    videos: str
    classes_of: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, text: str) -> "VideoDataset":
        """Parse ``NAME=LIST.txt:VIDEO_FOLDER``, where several lists have "+" between them.

        Raises:
            ValueError: the text has another form.
        """
        return cls(**parse_argument(text, ARGUMENT, f"{FORM} (or .csv)"))

    @cached_property
    def lists(self) -> tuple[VideoList, ...]:
        """The lists of ``files``.

        Raises:
            ValueError: one is missing or of no known kind, or it has malformed lines.
        """
        return tuple(_read_whole(file) for file in self.files.split("+"))

    @cached_property
    def info(self) -> VideoInfo:
        """Contents of the list.

        Raises:
            ValueError: as in :attr:`lists`; or the lists have no videos, or are of several kinds.
        """
        kinds = {one.kind for one in self.lists}
        if len(kinds) > 1:
            both = ", ".join(sorted(kinds))
            raise ValueError(f"lists {self.files} are of different kinds: {both}")
        entries = [entry for one in self.lists for entry in one.entries]
        if not entries:
            raise ValueError(f"list {self.files} has no videos")
        others = [_read_whole(file) for file in self.classes_of]
        return VideoInfo(
            classes=class_names([*self.lists, *others]),
            multi_label=self.lists[0].multi_label,
            videos=len(entries),
            outside=tuple(e.path for e in entries if e.path and leaves_folder(e.path)),
        )

    def register(self) -> None:
        """Register the data set with Detectron2. Registering twice does nothing.

        Raises:
            ValueError: as in :attr:`info`, or the name is taken.
        """
        if is_registered(self.name, {"video_list": self.files, "video_root": self.videos}):
            return
        info, metadata = self.info, MetadataCatalog.get(self.name)
        metadata.set(multi_label=info.multi_label, classes=list(info.classes), video_info=info)
        self.register_unread()

    def register_unread(self) -> None:
        """Register the data set without reading its lists; loading it sets its classes."""

        def load() -> list[dict]:
            MetadataCatalog.get(self.name).classes = list(self.info.classes)
            return self.load()

        DatasetCatalog.register(self.name, load)
        MetadataCatalog.get(self.name).set(
            evaluator_type="video", video_list=self.files, video_root=self.videos
        )

    def load(self) -> list[dict]:
        """Records with ``file_name``, ``video_id``, and ``label``, a number, or ``labels``.

        Of a video that is listed twice there is one record. Kinetics' videos that are not below the
        folder are left out, and the log says how many.

        Raises:
            ValueError: as in :attr:`info`; or a label is unknown, a video has two labels, or there
                are no videos.
        """
        info, records = self.info, {}
        numbers, missing, twice = class_numbers(info.classes), 0, 0
        for one in self.lists:
            for entry, file in zip(one.entries, find_files(one, self.videos), strict=True):
                unknown = [label for label in entry.labels if label not in numbers]
                if unknown:
                    raise ValueError(
                        f"list {self.files}, line {entry.line}: label {unknown[0]!r} is none of "
                        f"the {len(info.classes)} classes"
                    )
                missing += not file
                labels = [numbers[label] for label in entry.labels]
                target = {"labels": labels} if info.multi_label else {"label": labels[0]}
                record = {"file_name": file, "video_id": entry.video_id, **target}
                known = records.setdefault(entry.video_id, record)
                twice += known is not record
                if known != record:
                    raise ValueError(
                        f"list {self.files}, line {entry.line}: {entry.video_id} was listed before "
                        "with another label; remove one of the lines"
                    )
        if twice:
            logger.warning("%s: %d line(s) list a video again: left out", self.name, twice)
        if missing:
            logger.warning(
                "%s: %d of %d videos of the list are not below %s: left out",
                *(self.name, missing, len(records), self.videos),
            )
        found = [record for record in records.values() if record["file_name"]]
        if not found:
            raise ValueError(
                f"none of the {len(records)} videos of {self.files} is below {self.videos}: "
                "expected names as YOUTUBEID_000012_000022.mp4"
            )
        return found


def share_classes(data: Sequence[VideoDataset]) -> list[VideoDataset]:
    """The same data sets, which now have the classes of all their lists together.

    Without this a validation list that lacks a class would number the others in another way.
    """
    files = [file for one in data for file in one.files.split("+")]
    return [
        VideoDataset(
            one.name,
            one.files,
            one.videos,
            tuple(file for file in files if file not in one.files.split("+")),
        )
        for one in data
    ]


def check_classes(name: str, number: int) -> None:
    """Check that a registered data set has as many classes as the model. Those of Kinetics and
    Charades are known after they are first loaded.

    Raises:
        UsageError: it has not.
    """
    classes = MetadataCatalog.get(name).get("classes")
    if classes and len(classes) != number:
        raise UsageError(
            f"MODEL.VIDEO.NUM_CLASSES is {number}, but {name!r} has {len(classes)} class(es): give "
            f"{len(classes)}; if the list lacks classes of the model, write all of them into "
            "classes.txt in the list's folder, a name a line"
        )


def _read_whole(file: str) -> VideoList:
    found = read_list(file)
    if found.malformed:
        more = f" (and {len(found.malformed) - 1} more)" if len(found.malformed) > 1 else ""
        raise ValueError(f"list {file}, {found.malformed[0]}{more}")
    return found
