"""Settings of a relay data set."""

from dataclasses import dataclass

SPLITS = ("train", "val")
PLACES = ("far", "any", "beside", "end")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}  # RGB
KEYPOINTS = ("head", "centre", "tail")
MARGIN = 5  # how far the signal may lie from the corner
MOST_PAIRS = 4  # one in every cell of two by two
CLEAR = 8  # pixels that a signal at any place stays away from the object
NEAR = 12  # pixels within which a signal beside the object lies


@dataclass(frozen=True)
class Relay:
    """Settings of one relay data set; equal settings give equal files.

    Args:
        keypoints: the signal shows which end of the object is its head, and there is one class;
            otherwise it shows which of three classes the object has.
        height, width: of an image.
        signal: side of the square signal patch.
        place: where the signal lies: "far", in the opposite corner; "any", at any distance along
            the image; "beside", next to the object; or, with keypoints, "end": painted on one end
            of an object nearly as long as the image, to show which of two points at its other end
            is the head.
        beside: share of training images whose signal lies beside the object instead, or with
            "end" beside head and tail, where a detector without a non-local block can use it.
            Validation images all follow ``place``.
        stout: objects are 0.6 to 0.8 times as wide as long, rather than 0.3 to 0.45 times.
        pairs: objects in an image, at most four, each with a signal of its own that shares its
            texture; no two of an image have the same. Only the texture shows which signal belongs
            to an object.
        train, val: numbers of images.
        seed: of the random numbers of all images.

    Raises:
        ValueError: the settings leave no room for the object or its signal, or do not go together.
    """

    keypoints: bool = False
    height: int = 96
    width: int = 288
    signal: int = 32
    place: str = "far"
    beside: float = 0.0
    stout: bool = False
    pairs: int = 1
    train: int = 2000
    val: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if self.height < 32 or self.signal < 1 or self.signal > self.height - MARGIN:
            raise ValueError(
                "expected a height of 32 or more, and a signal of 1 to the height less "
                f"{MARGIN}; got height={self.height}, signal={self.signal}"
            )
        if self.place not in PLACES or (self.place == "end" and not self.keypoints):
            raise ValueError(
                f"place: expected one of {PLACES}, the last with keypoints=True, got "
                f"{self.place!r} with keypoints={self.keypoints}"
            )
        if self.place == "end" and self.signal > 0.4 * self.height:
            raise ValueError(
                f"expected a signal of at most {int(0.4 * self.height)}, to be painted on the "
                f"object, got {self.signal}"
            )
        if not 0 <= self.beside <= 1:
            raise ValueError(f"beside: expected a share from 0 to 1, got {self.beside}")
        self._check_pairs()
        clear = NEAR if self.beside else {"any": CLEAR, "beside": NEAR}.get(self.place, MARGIN)
        least = self.height + self.signal + clear
        if self.width < least:
            raise ValueError(
                f"expected a width of {least} or more, so that the signal stays clear of the "
                f"object, got {self.width}"
            )

    def _check_pairs(self) -> None:
        if self.pairs not in range(1, MOST_PAIRS + 1):
            raise ValueError(f"expected 1 to {MOST_PAIRS} pairs, got {self.pairs}")
        if self.pairs == 1:
            return
        if self.keypoints or self.place != "far" or self.beside:
            raise ValueError(
                'several pairs go with place="far" and without keypoints or a share "beside"'
            )
        cell = self.height // 2
        if cell < 32 or cell < self.signal + MARGIN:
            raise ValueError(
                f"several pairs: expected a height of 64 or more, and a signal of at most "
                f"{max(cell, 32) - MARGIN}; got height={self.height}, signal={self.signal}"
            )
        if self.width < 2 * self.height:
            raise ValueError(
                f"several pairs: expected a width of {2 * self.height} or more, as signals and "
                f"objects take a square each, got {self.width}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return ("thing",) if self.keypoints else tuple(COLOURS)
