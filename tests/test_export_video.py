"""Exported video classifiers against the models they were made of, for other numbers of clips."""

import json

import pytest
import torch
from helpers import CONFIGS, randomise
from test_export import WITH_ONNX
from video_models import WIDTH, randomise_batch_norms

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.export import FORMATS
from nl_detectron.modeling import build_model, find_blocks
from tools.export_model import main

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
CONFIG = str(CONFIGS / "Kinetics/c2d_R_50_nl_32x2.yaml")
THIN = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.DEPTH": 26,
    "MODEL.RESNETS.WIDTH_PER_GROUP": WIDTH,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": WIDTH,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4 * WIDTH,
    "MODEL.VIDEO.NUM_CLASSES": 5,
    "INPUT.VIDEO.FRAMES": 8,
    "INPUT.VIDEO.CROP_SIZE": 64,
    "TEST.VIDEO.CROP_SIZE": 96,
    "MODEL.NONLOCAL.BACKBONE.AFTER": ["res3.0", "res4.0"],
}
VARIANTS = {
    "spacetime": {},
    "space": {"MODEL.NONLOCAL.AXES": "space"},
    "time": {"MODEL.NONLOCAL.AXES": "time", "MODEL.VIDEO.MULTI_LABEL": True},
    "groups": {
        "MODEL.NONLOCAL.FRAMES_PER_GROUP": [0, 2, 0, 0],
        "MODEL.VIDEO.STRIDES": "8x8",
        "MODEL.NONLOCAL.PAIRWISE": "dot_product",
    },
}


@pytest.fixture
def words(tmp_path):
    """The tool's words for a thin model with random weights."""

    def of(variant, arch="i3d_3x1x1"):
        values = {**THIN, "MODEL.VIDEO.ARCH": arch, **VARIANTS[variant]}
        opts = [word for key, value in values.items() for word in (key, json.dumps(value))]
        opts = [{"true": "True"}.get(word, word) for word in opts]
        model = randomise_batch_norms(build_model(load_config(CONFIG, opts)))
        for block in find_blocks(model).values():
            randomise(block, std=0.1)
        torch.nn.init.normal_(model.linear.weight)
        torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
        weights = ["MODEL.WEIGHTS", str(tmp_path / "model.pth")]
        return model.eval(), ["--config-file", CONFIG, "--opts", *opts, *weights]

    return of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("spacetime", "torchscript"),
        ("time", "torchscript"),
        ("groups", "torch_export"),
        pytest.param("spacetime", "onnx", marks=WITH_ONNX),
    ],
)
def test_a_whole_classifier_is_exported_for_any_number_of_clips(
    variant, name, words, tmp_path, capsys
):
    model, given = words(variant)
    main(["--format", name, "--output", str(tmp_path / "out"), *given])
    first, *batches = capsys.readouterr().out.splitlines()
    [file] = (tmp_path / "out").iterdir()
    assert file.name == f"classifier.{FORMATS[name].file.split('.')[1]}"
    assert first == f"{file}: (B, 3, 8, 96, 96), RGB of 0 to 255 -> probabilities"
    assert [line.split(":")[0].strip() for line in batches] == ["2 clips", "1 clip", "3 clips"]
    assert max(float(line.split("difference ")[1]) for line in batches) < 1e-4
    clips = 255 * torch.rand(4, 3, 8, 96, 96)
    with torch.no_grad():
        [found] = FORMATS[name].read(file)(clips)
        torch.testing.assert_close(found, model.scores(clips), rtol=1e-4, atol=1e-5)


def test_an_image_is_no_clip_to_check_on(words, tmp_path):
    _, given = words("spacetime")
    with pytest.raises(UsageError, match="a video model is checked on made-up clips"):
        main(["--format", "torchscript", "--output", str(tmp_path), "--image", "photo.jpg", *given])


def test_a_checkpoint_without_the_classifier_is_refused(words, tmp_path):
    model, given = words("spacetime")
    tensors = {name: t for name, t in model.state_dict().items() if name.startswith("backbone.")}
    torch.save({"model": tensors}, given[-1])
    with pytest.raises(UsageError, match=r"lacks 2 of this model's tensors \(such as linear"):
        main(["--format", "onnx", "--output", str(tmp_path / "out"), *given])
