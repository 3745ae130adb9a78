"""Detectron2's DatasetMapper, which here also reads images of more than 8 bits a pixel."""

import copy
from typing import cast

import detectron2.data.detection_utils as utils
import numpy as np
import torch
from detectron2.data import DatasetMapper as Detectron2Mapper
from detectron2.data import transforms as T

from .images import read_image


class DatasetMapper(Detectron2Mapper):
    """The same samples as Detectron2's, except for images of more than 8 bits a pixel, which
    :func:`~.images.read_image` scales."""

    def __call__(self, dataset_dict: dict) -> dict:
        """Map a record of Detectron2's to a sample; Detectron2's own method names the reader."""
        sample = copy.deepcopy(dataset_dict)
        pixels = read_image(sample["file_name"], self.image_format)
        utils.check_image_size(sample, pixels)
        labels = None
        if "sem_seg_file_name" in sample:  # class numbers, which are not scaled
            labels = utils.read_image(sample.pop("sem_seg_file_name"), "L").squeeze(2)
        inputs = T.AugInput(pixels, sem_seg=labels)
        transforms = self.augmentations(inputs)
        image = cast(np.ndarray, inputs.image)  # transforms have replaced it
        shape = image.shape[:2]
        sample["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if inputs.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(inputs.sem_seg.astype("long"))
        if self.proposal_topk is not None:
            utils.transform_proposals(sample, shape, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            sample.pop("annotations", None)
        elif "annotations" in sample:
            self._transform_annotations(sample, transforms, shape)
        return sample
