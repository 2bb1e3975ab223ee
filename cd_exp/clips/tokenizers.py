"""The tokenizers of CLIP's text towers: open_clip's own, or one of the Hugging Face hub from a local folder."""

import gzip
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cd_exp.cache import hash_file
from cd_exp.errors import InputError
from cd_exp.io.hub import fetch_hub_folder

FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
"""What a tokenizer, and the configuration of a text tower, consist of on the hub."""
CONTENT = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
"""Any one of these makes a tokenizer."""
SETTING = "clip.tokenizer=FOLDER"
MARGIN = 4  # tokens that mark the beginning and the end, at most


def hash_tokenizer_folder(folder: str) -> dict[str, str]:
    """The content of a tokenizer's files, as part of a key."""
    path = check_tokenizer_folder(folder)
    return {name: hash_file(path / name) for name in FILES if (path / name).is_file()}


def check_tokenizer_folder(folder: str) -> Path:
    """A local folder that holds a tokenizer.

    Raises:
        InputError: there is none, or it holds no tokenizer.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"clip.tokenizer={folder}: there is no such folder (seen from {Path.cwd()})")
    if not any((path / name).is_file() for name in CONTENT):
        raise InputError(f"clip.tokenizer={folder} holds no tokenizer; one of {', '.join(CONTENT)} must be in it")
    return path


def download_tokenizer(text: Mapping[str, Any]) -> Path | None:
    """The local folder of the tokenizer that a configuration names on the hub, downloaded where it is not there.

    None for a text tower with open_clip's own tokenizer.

    Raises:
        InputError: it is not on this disk and cannot be downloaded.
    """
    named = text.get("hf_tokenizer_name")
    return fetch_hub_folder(str(named), CONTENT, optional=FILES, setting=SETTING) if named else None


def build_tokenizer(text: Mapping[str, Any], *, architecture: str, folder: Path | None, bpe: str | None) -> Any:
    """The tokenizer of a text tower.

    Args:
        text: the tower's part of the model's configuration.
        architecture: whose it is, for the error.
        folder: a local folder with a tokenizer of the hub; None for open_clip's own.
        bpe: other merges than OpenAI's.

    Raises:
        InputError: a file cannot be read, or does not fit the tower.
    """
    options, length = dict(text.get("tokenizer_kwargs") or {}), text.get("context_length") or 77
    if folder is None:
        tokenizer = _build_simple_tokenizer(bpe, {**options, "context_length": length})
        size = tokenizer.vocab_size
    else:
        tokenizer = _load_tokenizer_folder(
            folder, {**options, "context_length": length, "tokenizer_mode": text.get("tokenizer_mode")}
        )
        size = len(tokenizer.tokenizer)
    wanted = text.get("vocab_size")
    if wanted and (size > wanted or (bpe and size != wanted)):
        setting = f"clip.bpe={bpe}" if bpe else SETTING.replace("FOLDER", str(folder))
        raise InputError(
            f"{setting} has {size} tokens, {architecture} knows {wanted}; it is the tokenizer of another one"
        )
    return tokenizer


def find_long_prompts(tokenizer: Any, prompts: Iterable[str]) -> list[str]:
    """The prompts that are longer than the context: what goes beyond it never reaches the text tower."""
    length = tokenizer.context_length
    long = [prompt for prompt in prompts if len(prompt.encode()) > length - MARGIN]  # a token is a byte or more
    return [prompt for prompt in long if _count_tokens(tokenizer, prompt) > length]


def _count_tokens(tokenizer: Any, prompt: str) -> int:
    if hasattr(tokenizer, "tokenizer"):
        return len(tokenizer.tokenizer(tokenizer.clean_fn(prompt), verbose=False).input_ids)
    return len(tokenizer.encode(prompt)) + 2


def _build_simple_tokenizer(bpe: str | None, options: Mapping[str, Any]) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    if bpe is None:
        return SimpleTokenizer(**options)
    if not Path(bpe).is_file():
        raise InputError(f"clip.bpe={bpe}: there is no such file (seen from {Path.cwd()})")
    try:
        return SimpleTokenizer(bpe_path=bpe, **options)
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"clip.bpe={bpe} is no gzipped list of merges ({_shorten_error(error)})") from error


def _load_tokenizer_folder(path: Path, options: Mapping[str, Any]) -> Any:
    try:
        import transformers  # noqa: F401  open_clip imports it itself
    except ImportError as error:
        raise InputError("this CLIP's tokenizer needs transformers: pip install transformers") from error
    from open_clip.tokenizer import HFTokenizer

    try:
        return HFTokenizer(str(path), **options)
    except Exception as error:  # whatever library reads this kind of tokenizer raises what it likes
        raise InputError(f"the tokenizer in {path} cannot be read ({_shorten_error(error)}); set {SETTING}") from error


def _shorten_error(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
