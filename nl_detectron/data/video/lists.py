"""Reads lists of videos: ``path label`` lines, Kinetics' CSV and Charades' CSV.

Kinetics (https://github.com/cvdfoundation/kinetics-dataset): label,youtube_id,time_start,time_end,
split. Charades (https://prior.allenai.org/projects/charades): id and actions among others, where
actions are as "c092 11.90 21.20;c147 0.00 12.60".
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.utils.file_io import PathManager

CHARADES_CLASSES = 157
MOST_CLASSES = 100_000  # a larger number is no class's: a time, say
NAMES_FILES = ("classes.txt", "Charades_v1_classes.txt")  # in the list's folder: a class a line
ENDINGS = (".txt", ".csv")
VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov")


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Attributes:
        video_id: the path or the id that the list has.
        labels: names or numbers of classes, as they are written; one, or with Charades any number.
        path: of the video below its folder; "" for Kinetics, whose clips are looked for by id.
        line: number of the line, from 1.
    """

    video_id: str
    labels: tuple[str, ...]
    path: str
    line: int


@dataclass
class VideoList:
    """What a list says.

    Attributes:
        kind: "path label", "Kinetics" or "Charades".
        entries: its lines, without those of ``malformed``.
        malformed: for each line that cannot be understood, its number and the reason.
        classes: names of the file of classes beside the list, or None.
    """

    kind: str
    entries: list[Entry] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    classes: tuple[str, ...] | None = None

    @property
    def multi_label(self) -> bool:
        return self.kind == "Charades"


def read_list(path: str | os.PathLike) -> VideoList:
    """Read a list; :attr:`VideoList.malformed` has what is wrong with single lines.

    Raises:
        ValueError: the file is missing, cannot be read as text, or is of no known kind.
    """
    file = str(path)
    if not PathManager.isfile(file):
        raise ValueError(f"list {file}: there is no such file")
    try:
        lines = _read_text(file).split("\n")  # splitlines() would split at form feeds, too
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise ValueError(f"list {file} cannot be read as text: {error}") from error
    head = [name.strip() for name in lines[0].split(",")]
    if {"label", "youtube_id"} <= set(head):
        found, parse = VideoList("Kinetics"), _kinetics_row
    elif {"id", "actions"} <= set(head):
        found, parse = VideoList("Charades"), _charades_row
    elif "youtube_id" in head:
        raise ValueError(
            f"list {file}: expected Kinetics' columns label,youtube_id,time_start,time_end,split, "
            f"but it has {', '.join(head)}, so no classes"
        )
    else:
        found = VideoList("path label")
        _read_lines(lines, found)
        parse = None
    if parse:
        reader = csv.DictReader(lines, skipinitialspace=True)
        try:
            for row in reader:
                entry = parse(row, reader.line_num)
                target = found.entries if isinstance(entry, Entry) else found.malformed
                target.append(entry)  # pyright: ignore[reportArgumentType]
        except csv.Error as error:
            raise ValueError(
                f"list {file}, after line {reader.line_num}: {error}; close a quote that is open"
            ) from error
    found.classes = _read_classes(Path(file).parent)
    if found.multi_label:
        found.classes = found.classes or tuple(f"c{i:03d}" for i in range(CHARADES_CLASSES))
    return found


def _read_text(file: str) -> str:
    with PathManager.open(file, encoding="utf-8-sig") as opened:
        return str(opened.read())


def _read_lines(lines: Sequence[str], found: VideoList) -> None:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        parts = text.rsplit(maxsplit=1)
        if len(parts) < 2:
            parts = text.rsplit(",", 1)
        if len(parts) < 2 or not all(parts):
            found.malformed.append(f"line {number}: expected a path and a label, got {text[:80]!r}")
            continue
        name, label = (part.strip() for part in parts)
        found.entries.append(Entry(name, (label,), name, number))


def _kinetics_row(row: dict, line: int) -> Entry | str:
    label, name = ((row.get(key) or "").strip() for key in ("label", "youtube_id"))
    times = [(row.get(key) or "").strip() for key in ("time_start", "time_end")]
    if not (label and name and all(re.fullmatch(r"\d+(\.\d+)?", time) for time in times)):
        return (
            f"line {line}: expected a label, a youtube_id and two times in seconds, got "
            f"{', '.join([label, name, *times])[:80]!r}"
        )
    start, end = (int(float(time)) for time in times)
    return Entry(f"{name}_{start:06d}_{end:06d}", (label,), "", line)


def _charades_row(row: dict, line: int) -> Entry | str:
    name, actions = (row.get("id") or "").strip(), (row.get("actions") or "").strip()
    codes = [action.split()[0] for action in actions.split(";") if action.strip()]
    if not name or not all(re.fullmatch(r"c\d{3}", code) for code in codes):
        return (
            f"line {line}: expected an id, and actions as 'c092 11.90 21.20;c147 0.00 12.60', got "
            f"{f'{name}, {actions}'[:80]!r}"
        )
    labels = tuple(sorted({str(int(code[1:])) for code in codes}, key=int))
    return Entry(name, labels, f"{name}.mp4", line)


def _read_classes(folder: Path) -> tuple[str, ...] | None:
    """Names of classes in the order of their numbers; Charades' lines begin with c000 and so on."""
    for name in NAMES_FILES:
        file = folder / name
        if PathManager.isfile(str(file)):
            lines = [line.strip() for line in _read_text(str(file)).split("\n")]
            return tuple(re.sub(r"^c\d{3}\s+", "", line) for line in lines if line)
    return None


def class_names(lists: Sequence[VideoList]) -> tuple[str, ...]:
    """Names of the classes of lists that belong together, in the order of their numbers.

    They are those of the file of classes, else the labels' names in alphabetical order, which is
    that of Kinetics, or the numbers from 0 to the largest one.

    Raises:
        ValueError: a label is a number too large for a class.
    """
    for one in lists:
        if one.classes is not None:
            return one.classes
    labels = {label for one in lists for entry in one.entries for label in entry.labels}
    if labels and all(label.isdecimal() for label in labels):
        largest = max(int(label[:20]) for label in labels)  # int() refuses thousands of digits
        if largest >= MOST_CLASSES:
            raise ValueError(
                f"label {largest} is no number of a class: expected names, or numbers from 0 to "
                f"{MOST_CLASSES - 1}"
            )
        return tuple(map(str, range(largest + 1)))
    return tuple(sorted(labels))


def class_numbers(classes: Sequence[str]) -> dict[str, int]:
    """Numbers of classes by the labels that a list may have: their names, and their numbers unless
    a name is such a number."""
    numbers = {str(i): i for i in range(len(classes))}
    return numbers | {name: i for i, name in enumerate(classes)}


def find_files(found: VideoList, folder: str | os.PathLike) -> list[str]:
    """Paths of the videos of a list, "" for one of Kinetics that is not below the folder.

    Kinetics' clips are found by their names, ``YOUTUBEID_000012_000022`` with the ending of a
    video, in whatever folders they are.
    """
    if found.kind != "Kinetics":
        return [os.path.join(folder, entry.path) for entry in found.entries]
    known = dict(_videos_below(folder))
    return [known.get(entry.video_id, "") for entry in found.entries]


def _videos_below(folder: str | os.PathLike) -> Iterator[tuple[str, str]]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files, reverse=True):
            stem, ending = os.path.splitext(name)
            if ending.lower() in VIDEO_ENDINGS:
                yield stem, os.path.join(parent, name)
