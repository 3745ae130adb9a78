"""Settings of a spacetime relay data set."""

from dataclasses import dataclass

SPLITS = ("train", "val")
SHAPES = ("square", "disc", "cross")
COLOURS = {"red": (230, 40, 40), "blue": (40, 40, 230)}  # RGB
CLASSES = SHAPES  # named by the shape that a red patch leaves as it is


@dataclass(frozen=True)
class VideoRelay:
    """Settings of one data set; equal settings give equal pictures.

    Args:
        pictures: different pictures of a video.
        hold: frames that show the same picture, so that a clip of every ``hold``-th frame has each
            picture once.
        size: height and width of a video in pixels.
        margin: pixels at the border that neither patch nor shape touches, which training may crop.
        patch, shape: sides of the square patch and of the shape.
        gap: least distance between patch and shape in pictures.
        farthest: largest distance; 0 is any.
        train, val: numbers of videos.
        seed: of the random numbers of all videos.

    Raises:
        ValueError: the settings leave no room.
    """

    pictures: int = 8
    hold: int = 2
    size: int = 56
    margin: int = 4
    patch: int = 16
    shape: int = 18
    gap: int = 3
    farthest: int = 0
    train: int = 4000
    val: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.gap < self.pictures or (self.farthest and self.farthest < self.gap):
            raise ValueError(
                "expected a gap of 1 to less than the number of pictures, and a farthest of 0 or "
                f"of the gap or more; got gap={self.gap}, farthest={self.farthest}, "
                f"pictures={self.pictures}"
            )
        if self.hold < 1 or min(self.patch, self.shape) < 4 or self.size % 2:
            raise ValueError(
                "expected a hold of 1 or more, an even size, and a patch and a shape of 4 or more; "
                f"got hold={self.hold}, size={self.size}, patch={self.patch}, shape={self.shape}"
            )
        room = self.size - 2 * self.margin
        if max(self.patch, self.shape) > room:
            raise ValueError(
                f"expected a patch and a shape of at most {room}, the size less the margins, got "
                f"{self.patch} and {self.shape}"
            )
