"""From the files of an open_clip model to the model: locate them, check them against each other, build it."""

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from cd_exp.clips import preprocessing, tokenizers
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.checkpoints import find_states, load_plain
from cd_exp.io.hub import fetch_hub_file, fetch_hub_folder

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG = "open_clip_config.json"
WEIGHTS = (  # in the order in which open_clip itself takes them from a folder
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
ENDS = ("logit_scale",)
"""What every model of two towers has, for finding it within a checkpoint."""
FAULTS = (  # what open_clip, torch and safetensors raise for a file that is no weights, or others' weights
    *(SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError),
    *(KeyError, IndexError, AttributeError, StopIteration, AssertionError),
)


@dataclass(frozen=True)
class ModelFiles:
    """The local files of a model."""

    architecture: str
    """For the key: open_clip's name, or how the files were named where they describe themselves."""
    weights: Path
    config: Path | None = None
    folder: Path | None = None
    """With open_clip's own layout, where the model has one."""
    tokenizer: Path | None = None
    """A folder with the tokenizer, where it lies beside the weights."""

    def settings(self) -> dict[str, Any]:
        """The model's configuration: `embed_dim`, `vision_cfg`, `text_cfg`."""
        if self.config is not None:
            stored = read_clip_config(self.config)
            return stored["model_cfg"] if self.folder else stored
        shipped = read_library_configs()
        if self.architecture not in shipped:
            raise unknown_name_error("CLIP architecture", self.architecture, shipped)
        return json.loads(shipped[self.architecture].read_text(encoding="utf-8"))


def read_library_configs() -> Mapping[str, Path]:
    """The architectures that open_clip ships, read from its files: importing it takes seconds."""
    library = find_spec("open_clip")
    assert library is not None
    assert library.origin is not None
    return {path.stem: path for path in sorted((Path(library.origin).parent / "model_configs").glob("*.json"))}


def locate_library_model(architecture: str, weights: Path, config: str | None) -> ModelFiles:
    """One of open_clip's architectures, or one of a JSON config named so."""
    if config is None:
        return ModelFiles(architecture, weights)
    if not Path(config).is_file():
        raise InputError(f"clip.config={config}: there is no such file (seen from {Path.cwd()})")
    if Path(config).stem != architecture:
        raise InputError(f"clip.config={config} describes {Path(config).stem!r}, clip.architecture is {architecture!r}")
    return ModelFiles(architecture, weights, Path(config))


def locate_folder_model(folder: Path, *, architecture: str = "local-dir") -> ModelFiles:
    """A folder with open_clip's own layout."""
    if not folder.is_dir():
        raise InputError(f"clip.architecture=local-dir:{folder}: there is no such folder (seen from {Path.cwd()})")
    if not (folder / CONFIG).is_file():
        raise InputError(f"clip.architecture={architecture}:{folder} has no {CONFIG}; it must lie beside the weights")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise InputError(f"clip.architecture={architecture}:{folder} has no weights; one of {', '.join(WEIGHTS[:3])}")
    tokenizer = folder if any((folder / name).is_file() for name in tokenizers.CONTENT) else None
    return ModelFiles(architecture, weights, folder / CONFIG, folder, tokenizer)


def locate_hub_model(repository: str) -> ModelFiles:
    """A repository of the hub with open_clip's own layout."""
    setting = "clip.architecture=local-dir:FOLDER"
    fetch_hub_file(repository, *WEIGHTS[:3], setting=setting)
    folder = fetch_hub_file(repository, CONFIG, setting=setting).parent
    return locate_folder_model(folder, architecture=f"hf-hub:{repository}")


def read_clip_config(path: Path) -> dict[str, Any]:
    """A JSON model config, or one of open_clip's own layout, with what every model needs in it."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"the CLIP config {path} is no JSON ({error})") from error
    model = stored.get("model_cfg") if isinstance(stored, dict) and path.name == CONFIG else stored
    wanted = ("embed_dim", "vision_cfg", "text_cfg")
    missing = [key for key in wanted if not isinstance(model, dict) or key not in model]
    if missing:
        raise InputError(
            f"the CLIP config {path} has no {', '.join(missing)}; open_clip's configs have {', '.join(wanted)}"
        )
    return stored


def build_clip(
    source: ModelFiles, *, tag: str | None, settings: Mapping[str, Any] | None, text_folder: str | None
) -> "tuple[nn.Module, Callable[[Image], Tensor]]":
    """The model in evaluation mode, and what it does to an image.

    Args:
        source: its files.
        tag: the tag of the weights, where known.
        settings: of the preprocessing, over those of the tag.
        text_folder: a local folder with the configuration of a Hugging Face text tower.

    Raises:
        InputError: the files do not fit each other, or cannot be read.
    """
    import open_clip  # 10 s, and not needed where the embeddings are stored

    name, options = _register_config(source, tag=tag, settings=settings, text_folder=text_folder)
    weights = None if source.folder else str(source.weights)
    fault = _describe_weights_fault(source.weights)
    if fault:
        raise InputError(f"{source.weights} {fault}; {source.architecture} needs a file of weights")
    try:
        with contextlib.ExitStack() as stack:
            plain = None if weights is None else stack.enter_context(_plain_state(Path(weights)))
            built, transform = open_clip.create_model_from_pretrained(name, pretrained=plain, **options)
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(f"{source.weights} do not fit {source.architecture}: {_shorten_mismatch(error)}") from error
    return built.eval(), transform


@contextmanager
def _plain_state(weights: Path) -> Iterator[str]:
    """A file that open_clip reads: the weights themselves, or a copy of what lies within a checkpoint.

    open_clip reads a state dict, or one under `state_dict`, whose names may begin with `module.`.
    """
    state = None if weights.suffix in (".safetensors", ".npz") else _nested_state(weights)
    if state is None:
        yield str(weights)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, path)
        yield str(path)


def _nested_state(weights: Path) -> dict[str, Tensor] | None:
    """The one state of two towers within a checkpoint, without what its names have in common.

    None where open_clip reads the file as it is.

    Raises:
        InputError: there are several.
    """
    try:
        held = load_plain(weights)
    except Exception:  # TorchScript, or no file of torch's: open_clip says what it is
        return None
    states = {}
    for where, state in find_states(held).items():
        for prefix in {name[: -len(end)] for name in state for end in ENDS if name == end or name.endswith(f".{end}")}:
            states[where, prefix] = {
                name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)
            }
    if not states or any(
        key in (("", ""), ("state_dict", ""), ("", "module."), ("state_dict", "module.")) for key in states
    ):
        return None
    if len(states) > 1:
        parts = ", ".join(f"{where}.{prefix}".strip(".") for where, prefix in states)
        raise InputError(f"clip.weights={weights} holds several models: {parts}; save one of them in a file of its own")
    return next(iter(states.values()))


def build_without_weights(
    source: ModelFiles, *, tag: str | None, settings: Mapping[str, Any] | None, text_folder: str | None
) -> "tuple[nn.Module, Callable[[Image], Tensor]]":
    """As `build_clip`, without any numbers: a model on torch's `meta` device, whose files of weights need not be
    there.
    """
    import open_clip

    name, options = _register_config(source, tag=tag, settings=settings, text_folder=text_folder)
    with torch.device("meta"):
        built, _, transform = open_clip.create_model_and_transforms(name, load_weights=False, device="meta", **options)
    return built.eval(), transform


def _register_config(
    source: ModelFiles, *, tag: str | None, settings: Mapping[str, Any] | None, text_folder: str | None
) -> tuple[str, dict[str, Any]]:
    """What open_clip is to build: its name there, and the settings of its preprocessing and its text tower."""
    import open_clip

    model = source.settings()
    if source.folder is None and source.config is not None:
        open_clip.add_model_config(source.config)
    if tag is not None:
        _refuse_other_activation(source.architecture, tag, model)
    preprocess = {} if source.folder else preprocessing.read_weights_preprocessing(source.architecture, tag)
    options = preprocessing.as_open_clip_arguments({**preprocess, **preprocessing.drop_null_settings(settings)})
    text = _configure_text_tower(model["text_cfg"], text_folder, source)
    return source.architecture if source.folder is None else f"local-dir:{source.folder}", {**options, **text}


def read_tag_settings(architecture: str, tag: str) -> Mapping[str, Any]:
    """What open_clip knows of a tag of an architecture."""
    import open_clip

    if architecture not in read_library_configs():
        raise unknown_name_error("CLIP architecture", architecture, read_library_configs())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise unknown_name_error("weights", tag, tags, where=f"a tag of {architecture}")
    return open_clip.get_pretrained_cfg(architecture, tag)


def _refuse_other_activation(architecture: str, tag: str, model: Mapping[str, Any]) -> None:
    """Weights trained with QuickGELU give wrong embeddings without it, and open_clip at most warns."""
    trained = bool(read_tag_settings(architecture, tag).get("quick_gelu", False))
    built = bool(model.get("quick_gelu", False))
    if trained != built:
        other = architecture.removesuffix("-quickgelu") if built else f"{architecture}-quickgelu"
        raise InputError(
            f"weights {tag!r} were trained {'with' if trained else 'without'} QuickGELU, "
            f"clip.architecture={architecture} is not; use {other}"
        )


def _configure_text_tower(text: Mapping[str, Any], folder: str | None, source: ModelFiles) -> dict[str, Any]:
    """The configuration of a Hugging Face text tower, from a local folder; its weights come with CLIP's own."""
    if not text.get("hf_model_name"):
        return {}
    folders = [Path(folder)] if folder else [source.folder] if source.folder else []
    local = next((candidate for candidate in folders if _describes_text_tower(candidate / "config.json")), None)
    if local is None:
        local = fetch_hub_folder(text["hf_model_name"], ("config.json",), optional=(), setting=tokenizers.SETTING)
    return {"text_cfg": {**text, "hf_model_name": str(local), "hf_model_pretrained": False}}


def _describes_text_tower(file: Path) -> bool:
    """Whether a file is the configuration of a Hugging Face model: other kinds of model call theirs the same."""
    try:
        return "model_type" in json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return False


def _describe_weights_fault(weights: Path) -> str:
    """What a file is instead of weights, or an empty string."""
    with weights.open("rb") as file:
        begin = file.read(512)
    if not begin:
        return "is empty"
    if begin.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself: run `git lfs pull`"
    if begin.lstrip()[:1] == b"<":
        return "is a web page, not the file itself: download it again"
    return ""


def _shorten_mismatch(error: Exception) -> str:
    """An error of loading weights in one line: torch's own is one line a tensor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    more = f" (and {len(lines) - 2} more lines of that kind)" if len(lines) > 2 else ""
    return " ".join(line if len(line) <= 240 else line[:237] + "..." for line in lines[:2]) + more
