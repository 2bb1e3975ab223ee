"""A real open_clip model with random weights, small enough to write down."""

import pytest
import torch

from cd_exp.clips import OpenClip


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    config = folder / "tiny_clip.json"
    config.write_text(
        '{"embed_dim": 16,'
        ' "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},'
        ' "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}'
    )
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny_clip", pretrained=None)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "tiny.safetensors")
    return folder


@pytest.fixture
def clip(weights):
    return OpenClip("tiny_clip", weights=str(weights / "tiny.safetensors"), config=str(weights / "tiny_clip.json"))
