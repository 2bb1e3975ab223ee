"""The target network of `experiment=vit_shapes`: timm's smallest ViT, untrained, on images of `shapes`.

It shows that hidden units of transformer blocks are found, pooled and labelled. Its labels mean nothing.
"""

from typing import Any


def network() -> tuple[Any, Any, None]:
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = timm.create_model("test_vit", pretrained=False, img_size=48)
    config = timm.data.resolve_model_data_config(module) | {"input_size": (3, 48, 48), "crop_pct": 1.0}
    return module, timm.data.create_transform(**config, is_training=False), None
