"""Results of the video demo's runs as tests make them up, and tables as they are read."""

from nl_detectron.video_relay import VideoRelay

TINY = VideoRelay(pictures=4, gap=1, hold=1, size=32, margin=0, patch=8, shape=10, train=1, val=6)


def make_result(accuracy: float, right: dict[int, int] | None = None) -> dict:
    """A run's result; ``right`` are the videos out of 50 by distance."""
    counts = [{"distance": d, "videos": 50, "right": n} for d, n in (right or {3: 25}).items()]
    versions = {"torch": "2"}
    return {
        **{"video": accuracy, "distances": counts, "versions": versions},
        **{"seconds": 200.0, "parameters": 1234},
    }


def cells(text: str) -> list[list[str]]:
    """Rows of all tables of a page."""
    return [[c.strip() for c in line.split("|")[1:-1]] for line in text.split("\n") if "|" in line]
