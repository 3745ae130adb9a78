"""The classifier of clips: loss, fully convolutional scores, pixels, autocast, training."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from fast_part import combinations
from torch.nn import functional as F
from video_models import build_video_model, make_clips, tiny_video_cfg

from nl_detectron.engine import Checkpointer, build_on_meta
from nl_detectron.modeling import find_blocks


def features_of(model, clips):
    """The last map of clips, pixel by pixel as the config says."""
    x = (clips.float() - 114.75) / 57.375
    return model.backbone(x)["res5"]


def test_loss_is_cross_entropy_of_the_pooled_map():
    model = build_video_model(tiny_video_cfg(DROPOUT=0.0)).train()
    batch = make_clips(3)
    with EventStorage() as storage:
        losses = model(batch)
    assert list(losses) == ["loss_cls"]
    features = features_of(model, torch.stack([item["clip"] for item in batch]))
    logits = features.mean(dim=(2, 3, 4)) @ model.linear.weight.T + model.linear.bias
    labels = torch.tensor([item["label"] for item in batch])
    torch.testing.assert_close(losses["loss_cls"], F.cross_entropy(logits, labels))
    right = (logits.argmax(dim=1) == labels).float().mean().item()
    logged = storage.history("video_classifier/accuracy").latest()
    assert logged == pytest.approx(right)


def test_accuracy_is_the_share_of_clips_that_are_right():
    model = build_video_model(tiny_video_cfg(DROPOUT=0.0)).train()
    model.linear.weight.data.zero_()
    model.linear.bias.data.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0]))
    batch = [
        {**item, "label": label} for item, label in zip(make_clips(4), (2, 2, 1, 2), strict=True)
    ]
    with EventStorage() as storage:
        model(batch)
    assert storage.history("video_classifier/accuracy").latest() == 0.75
    assert "loss_cls" in model(batch)  # without a storage, as in a notebook


def test_loss_of_several_labels_is_binary_cross_entropy():
    model = build_video_model(tiny_video_cfg(DROPOUT=0.0, MULTI_LABEL=True)).train()
    labels = ([0, 3], [], [4])
    clips = make_clips(3)
    batch = [{"clip": c["clip"], "labels": of} for c, of in zip(clips, labels, strict=True)]
    loss = model(batch)["loss_cls"]
    logits = model.pooled_logits(torch.stack([item["clip"] for item in clips])).detach()
    total = 0.0
    for row, of in zip(logits, labels, strict=True):
        for k, score in enumerate(row):
            total -= F.logsigmoid(score if k in of else -score).item()
    assert loss.item() == pytest.approx(total / logits.numel(), rel=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_are_the_mean_over_windows_of_the_size_of_training(multi_label):
    cfg = tiny_video_cfg(MULTI_LABEL=multi_label)  # 64 pixels, so windows of 2 positions
    model = build_video_model(cfg).eval()
    model.linear.weight.data.normal_()
    views = torch.randint(0, 256, (5, 3, 8, 96, 128), dtype=torch.uint8)
    with torch.no_grad():
        [found] = model([{"clips": views}])
        maps = features_of(model, views)
        assert maps.shape[3:] == (3, 4)
        probabilities = []
        for row in range(2):
            for column in range(3):
                window = maps[:, :, :, row : row + 2, column : column + 2].mean(dim=(2, 3, 4))
                logits = model.linear(window)
                probabilities.append(logits.sigmoid() if multi_label else logits.softmax(dim=1))
    assert found["scores"].shape == (5, 5) and found["scores"].dtype == torch.float32
    torch.testing.assert_close(found["scores"], torch.stack(probabilities).mean(dim=0))
    assert not torch.allclose(probabilities[0], probabilities[-1], rtol=1e-2)


def test_at_the_size_of_training_scores_are_those_of_the_pooled_map():
    model = build_video_model(tiny_video_cfg()).eval()
    clips = torch.stack([item["clip"] for item in make_clips()])
    with torch.no_grad():
        expected = model.pooled_logits(clips).softmax(dim=1)
        torch.testing.assert_close(model.scores(clips), expected)


def test_without_windows_scores_are_those_of_the_pooled_map_at_any_size():
    cfg = tiny_video_cfg()
    cfg.TEST.VIDEO.FULLY_CONV = False
    model = build_video_model(cfg).eval()
    model.linear.weight.data.normal_()
    clips = torch.randint(0, 256, (2, 3, 8, 96, 128), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.pooled_logits(clips).softmax(dim=1)
        torch.testing.assert_close(model.scores(clips), expected)
        model.fully_conv = True
        assert not torch.allclose(model.scores(clips), expected, rtol=1e-3)


@pytest.mark.parametrize(("crop", "window"), [(224, 7), (288, 9), (48, 2), (32, 1)])
def test_the_window_is_the_map_of_trainings_crop(crop, window):
    cfg = tiny_video_cfg()
    cfg.INPUT.VIDEO.CROP_SIZE = crop
    assert build_on_meta(cfg).window == window


def test_views_are_taken_some_at_a_time_and_videos_one_by_one():
    cfg = tiny_video_cfg()
    cfg.TEST.VIDEO.BATCH = 2
    model = build_video_model(cfg).eval()
    sizes = []
    model.backbone.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    views = [torch.randint(0, 256, (n, 3, 8, 64, 64), dtype=torch.uint8) for n in (5, 1)]
    with torch.no_grad():
        found = model([{"clips": v} for v in views])
        assert sizes == [2, 2, 1, 1]
        for one, v in zip(found, views, strict=True):
            torch.testing.assert_close(one["scores"], model.scores(v))


def test_bgr_weights_see_the_channels_in_their_order():
    cfg = tiny_video_cfg()
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [103.5, 116.3, 123.7], [1.0, 2.0, 3.0]
    cfg.INPUT.FORMAT = "BGR"
    model = build_video_model(cfg).eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    clips = torch.rand(1, 3, 4, 64, 64) * 255
    model.scores(clips)
    red, green, blue = clips.unbind(1)
    expected = [(blue - 103.5) / 1, (green - 116.3) / 2, (red - 123.7) / 3]
    torch.testing.assert_close(seen[0], torch.stack(expected, dim=1))


def test_dropout_acts_in_training_alone():
    model = build_video_model(tiny_video_cfg(DROPOUT=0.5))
    features = torch.ones(1, 1000)
    assert 300 < (model.train().dropout(features) == 0).sum() < 700
    assert torch.equal(model.eval().dropout(features), features)


def test_classifier_starts_small():
    model = build_video_model(tiny_video_cfg(NUM_CLASSES=400))
    assert model.linear.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not model.linear.bias.any()


@pytest.mark.slow
@combinations(dtype=[torch.float16, torch.bfloat16], axes=["spacetime", "space", "time"])
def test_training_under_autocast_is_finite(axes, dtype):
    cfg = tiny_video_cfg("i3d_3x1x1")
    cfg.MODEL.NONLOCAL.update({"NORM": "BN", "AXES": axes})
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res3.-2", "res4.-2"]
    model = build_video_model(cfg).train()
    with torch.autocast("cpu", dtype):
        loss = model(make_clips())["loss_cls"]
    assert loss.dtype == torch.float32
    loss.backward()
    blocks = tuple(find_blocks(model))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert any(p.grad.any() for n, p in model.named_parameters() if n.startswith(blocks))


def test_frozen_norms_train_the_blocks_of_long_clips():
    cfg = tiny_video_cfg("i3d_3x1x1")
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res3.0", "res4.0"]
    cfg.MODEL.NONLOCAL.FRAMES_PER_GROUP = [0, 2, 0, 0]
    cfg.INPUT.VIDEO.FRAMES = 16
    model = build_video_model(cfg).train()
    norms = {n: b.clone() for n, b in model.named_buffers() if "running" in n}
    model(make_clips(frames=16))["loss_cls"].backward()
    for block in find_blocks(model).values():
        assert block.w_z.weight.grad.any()
    for name, buffer in model.named_buffers():
        assert name not in norms or torch.equal(buffer, norms[name])


def test_a_baselines_statistics_go_into_frozen_norms(tmp_path):
    trained = build_video_model(tiny_video_cfg("i3d_3x1x1"))
    torch.save({"model": trained.state_dict()}, tmp_path / "model.pth")
    cfg = tiny_video_cfg("i3d_3x1x1")
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    frozen = build_video_model(cfg, seed=5)
    checkpointer = Checkpointer(frozen)
    checkpointer.load(str(tmp_path / "model.pth"))
    assert list(checkpointer.fresh) == []
    clips = torch.randint(0, 256, (1, 3, 8, 64, 64))
    with torch.no_grad():
        expected = trained.eval().scores(clips)
        torch.testing.assert_close(frozen.train().eval().scores(clips), expected)
