"""Small subsets of data sets in COCO's format."""

from collections import Counter


def subset(content: dict, count: int, max_objects: int) -> dict:
    """Select the images with 1 to ``max_objects`` objects, and of them the first ones by id.

    Crowds do not count as objects, nor do objects without keypoints in a file of keypoints.

    Args:
        content: an annotation file, as :func:`~.coco.read_coco` returns it.
        count: largest number of images.
        max_objects: largest number of objects in an image.

    Returns:
        The content with the selected images and their annotations only.
    """
    objects = Counter(
        a["image_id"]
        for a in content["annotations"]
        if not a["iscrowd"] and a.get("num_keypoints", 1) > 0
    )
    useful = [image for image, n in objects.items() if n <= max_objects]
    chosen = set(sorted(useful)[:count])
    return {
        **content,
        "images": [i for i in content["images"] if i["id"] in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in chosen],
    }
