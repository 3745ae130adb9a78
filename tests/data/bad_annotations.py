"""Bad annotation files: a change of the valid content, and the issue that the check reports."""

from collections.abc import Callable

from coco_files import HEIGHT, WIDTH

BIG = 10**30
POLYGON = [1, 1, 5, 5, 1, 5]


def of_annotation(**changes) -> Callable[[dict], None]:
    return lambda content: content["annotations"][0].update(changes)


def of_image(**changes) -> Callable[[dict], None]:
    return lambda content: content["images"][0].update(changes)


def without(kind: str, key: str) -> Callable[[dict], None]:
    return lambda content: content[kind][0].pop(key)


def rle(counts: object, size: object = (HEIGHT, WIDTH)) -> Callable[[dict], None]:
    size = list(size) if isinstance(size, tuple) else size
    return of_annotation(segmentation={"counts": counts, "size": size})


def for_all(**changes) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for annotation in content["annotations"]:
            annotation.update(changes)

    return change


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


BAD = [
    ("incomplete annotation", of_annotation(id=1.5)),
    ("incomplete annotation", of_annotation(id=True)),
    ("incomplete annotation", of_annotation(id=BIG)),
    ("incomplete annotation", of_annotation(image_id=None)),
    ("incomplete annotation", of_annotation(image_id=nested(200))),
    ("incomplete annotation", of_annotation(image_id={})),
    ("incomplete annotation", of_annotation(category_id=None)),
    ("incomplete annotation", of_annotation(category_id=[3])),
    ("incomplete annotation", without("annotations", "category_id")),
    ("incomplete annotation", of_annotation(bbox=None)),
    ("incomplete annotation", of_annotation(bbox={})),
    ("id is no integer", of_annotation(id="1")),
    ("unknown category", of_annotation(category_id="20")),
    ("unknown category", of_annotation(category_id=-1)),
    ("unknown image", of_annotation(image_id="5")),
    ("ignore is set", of_annotation(ignore=None)),
    ("ignore is set", of_annotation(ignore="0")),
    ("malformed iscrowd", of_annotation(iscrowd=2)),
    ("malformed iscrowd", of_annotation(iscrowd="0")),
    ("malformed iscrowd", of_annotation(iscrowd=None)),
    ("malformed iscrowd", of_annotation(iscrowd=[])),
    ("malformed iscrowd", of_annotation(iscrowd=float("nan"))),
    ("malformed area", of_annotation(area="12")),
    ("malformed area", of_annotation(area=None)),
    ("malformed area", of_annotation(area=-3)),
    ("malformed area", of_annotation(area=float("nan"))),
    ("malformed box", of_annotation(bbox=[1, 2, 3])),
    ("malformed box", of_annotation(bbox=[1, 2, 3, None])),
    ("malformed box", of_annotation(bbox=[1, 2, 3, BIG])),
    ("malformed box", of_annotation(bbox=[1e300, 2, 3, 4])),
    ("malformed box", of_annotation(bbox=[[1, 2, 3, 4]])),
    ("malformed box", of_annotation(bbox={"x": 1})),
    ("malformed box", of_annotation(bbox="1 2 3 4")),
    ("malformed box", of_annotation(bbox=[1, 2, float("inf"), 4])),
    ("malformed box", of_annotation(bbox=nested(300))),
    ("malformed mask", of_annotation(segmentation=5)),
    ("malformed mask", of_annotation(segmentation=True)),
    ("malformed mask", of_annotation(segmentation=[1, 2, 3, 4, 5, 6])),
    ("malformed mask", of_annotation(segmentation=["abcdef"])),
    ("malformed mask", of_annotation(segmentation=[POLYGON, None])),
    ("malformed mask", of_annotation(segmentation=[[*POLYGON[:-1], "5"]])),
    ("malformed mask", of_annotation(segmentation=[[*POLYGON[:-1], float("nan")]])),
    ("malformed mask", of_annotation(segmentation=[[*POLYGON[:-1], BIG]])),
    ("malformed mask", of_annotation(segmentation={"size": [HEIGHT, WIDTH]})),
    ("malformed RLE", of_annotation(segmentation={"counts": [HEIGHT * WIDTH]})),
    ("mask far outside its image", of_annotation(segmentation=[[1e8, 1, 5, 5, 1, 5]])),
    ("malformed mask", of_annotation(segmentation=[[1e300, 1, 5, 5, 1, 5]])),
    ("malformed RLE", rle([-5, 10])),
    ("malformed RLE", rle([HEIGHT * WIDTH + 1])),
    ("malformed RLE", rle([HEIGHT * WIDTH - 1])),
    ("malformed RLE", rle([])),
    ("malformed RLE", rle([1.5, HEIGHT * WIDTH])),
    ("malformed RLE", rle([BIG])),
    ("malformed RLE", rle(["1", "2"])),
    ("malformed RLE", rle(None)),
    ("malformed RLE", rle(7)),
    ("malformed RLE", rle("")),
    ("malformed RLE", rle("zzzzzzzzzz")),
    ("malformed RLE", rle("é")),
    ("mask of another size", rle([WIDTH * HEIGHT], (WIDTH, HEIGHT))),
    ("malformed RLE", rle([WIDTH * HEIGHT], 64)),
    ("malformed RLE", rle([WIDTH * HEIGHT], None)),
    ("malformed RLE", rle([0], (0, 0))),
    ("malformed keypoints", of_annotation(keypoints="abc")),
    ("malformed keypoints", of_annotation(keypoints=5)),
    ("malformed keypoints", of_annotation(keypoints={"x": 1})),
    ("malformed keypoints", of_annotation(keypoints=[1, 2, None] * 3)),
    ("malformed keypoints", of_annotation(keypoints=["1", 2, 2] * 3)),
    ("malformed keypoints", of_annotation(keypoints=[float("nan"), 2, 2] * 3)),
    ("malformed keypoints", of_annotation(keypoints=[[1, 2, 2]] * 3)),
    ("keypoint count", of_annotation(keypoints=[1, 2, 2])),
    ("no labelled keypoints", for_all(keypoints=[0] * 9, num_keypoints=0)),
    ("incomplete image", of_image(id=None)),
    ("incomplete image", of_image(id=[5])),
    ("incomplete image", of_image(id=True)),
    ("incomplete image", of_image(file_name=None)),
    ("incomplete image", of_image(file_name=5)),
    ("incomplete image", of_image(file_name="")),
    ("incomplete image", of_image(file_name="a\0.png")),
    ("incomplete image", of_image(file_name="\ud800.png")),
    ("incomplete image", of_image(height="64")),
    ("incomplete image", of_image(width=96.0)),
    ("no image size", of_image(height=0)),
    ("no image size", of_image(width=-96)),
    ("extreme image shape", of_image(width=HEIGHT * 2000)),
    ("image ids of two types", of_image(id="5")),
    ("image outside its folder", of_image(file_name="/etc/hostname")),
    ("image outside its folder", of_image(file_name="../a.png")),
    ("image outside its folder", of_image(file_name="images/../../a.png")),
    ("image outside its folder", of_image(file_name="..")),
    ("nothing annotated", for_all(iscrowd=1)),
    ("nothing annotated", for_all(image_id=99)),
    ("nothing annotated", for_all(segmentation=[[1, 1, 2, 2]])),
    ("keypoint name twice", lambda c: c["categories"][0].update(keypoints=["a", "a", "b"])),
]
