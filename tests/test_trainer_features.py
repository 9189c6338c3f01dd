"""Features under their own names: Inception's as torch-fidelity has them, CLIP's as open_clip; random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from curation.errors import UsageError
from curation.models.patch_torchvision import patch_torchvision
from curation.trainer import metrics
from curation.trainer.evaluate import _measured, _scored
from curation.trainer.features import extractor

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def pictures(count: int, seed: int, side: int = 32) -> np.ndarray:
    """Smooth coloured noise, uint8 [N, side, side, 3]."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)) for x in small])


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's real architecture with random weights, in a file such as torch-fidelity's."""
    patch_torchvision()
    from torch_fidelity import feature_extractor_inceptionv3 as module

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("inception", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_fid_kid_and_inception_score_are_torch_fidelitys(inception: Path, tmp_path: Path) -> None:
    """From the same PNGs and the same weights, its own program gives the same numbers."""
    from torch_fidelity import calculate_metrics

    sets = {"a": pictures(10, 0), "b": pictures(4, 1)}
    for name, shown in sets.items():
        (tmp_path / name).mkdir()
        for i, picture in enumerate(shown):
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    ours = _measured(extractor(f"inception:{inception}"), sets["a"], sets["b"])
    theirs = calculate_metrics(
        input1=str(tmp_path / "a"), input2=str(tmp_path / "b"), fid=True, kid=True, isc=True, kid_subset_size=4,
        cuda=False, cache=False, verbose=False, feature_extractor_weights_path=str(inception),
    )  # fmt: skip
    assert list(ours) == ["FID", "KID", "KID, deviation", "Inception Score", "Inception Score, deviation", "caution"]
    assert ours["FID"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3, abs=1e-5)
    assert ours["KID"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3, abs=1e-5)
    assert ours["Inception Score"] == pytest.approx(theirs["inception_score_mean"], rel=1e-3)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"weights": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match=r"weights\.pth is no file of plain weights"):
        extractor(f"inception:{tmp_path / 'weights.pth'}")
    assert not (tmp_path / "ran").exists()


def test_cmmd_and_clip_score_are_of_open_clips_features(tmp_path: Path) -> None:
    patch_torchvision()
    import open_clip
    from safetensors.torch import save_file

    (tmp_path / "tiny-eval.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-eval.json")
    torch.manual_seed(0)
    weights = open_clip.create_model("tiny-eval").state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "clip.safetensors")
    spec = f"open_clip:{tmp_path / 'tiny-eval.json'}:{tmp_path / 'clip.safetensors'}"
    samples, reference, prompts = pictures(6, 0), pictures(5, 1), [f"a prompt {i}" for i in range(6)]
    measured, scored = _measured(extractor(spec), samples, reference), _scored(spec, samples, prompts)
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-eval", str(tmp_path / "clip.safetensors"))
    model.eval()
    with torch.inference_mode():
        a, b = (
            torch.cat([model.encode_image(preprocess(Image.fromarray(x))[None], normalize=True) for x in shown]).numpy()
            for shown in (samples, reference)
        )
        text = model.encode_text(open_clip.get_tokenizer("tiny-eval")(prompts), normalize=True).numpy()
    assert measured["CMMD"] == pytest.approx(metrics.cmmd(a, b), rel=1e-3, abs=1e-6)
    assert scored == {"CLIP score": pytest.approx(max(0.0, 100 * float((a * text).sum(1).mean())), rel=1e-3, abs=1e-3)}
    assert not {"FID", "KID"} & set(measured)


@pytest.mark.parametrize("weights", [{}, {"other": torch.zeros(2)}, [torch.zeros(2)], "cut"])
def test_weights_of_another_network_are_a_sentence(inception: Path, tmp_path: Path, weights: object) -> None:
    if weights == "cut":
        weights = dict(list(torch.load(inception, weights_only=True).items())[:-1])
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"other\.pth are not torch-fidelity's weights: "):
        extractor(f"inception:{tmp_path / 'other.pth'}")
