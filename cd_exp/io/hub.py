"""Files of the Hugging Face hub: from its local cache if there; fails fast with a clear error when offline."""

import os
from collections.abc import Sequence
from pathlib import Path

from cd_exp.errors import InputError
from cd_exp.io.download import refuse_download

SECONDS = 4.0  # huggingface_hub itself retries for most of a minute before it gives up


def fetch_hub_file(repository: str, *filenames: str, setting: str) -> Path:
    """The local path of a file of a hub repository, downloaded at most once.

    `HF_ENDPOINT` names a mirror, `HF_TOKEN` the user, `HTTPS_PROXY` a proxy, as everywhere with the hub.

    Args:
        repository: as in `timm/resnet50.tv_in1k`.
        filenames: as in `model.safetensors`; of several, the first that there is.
        setting: what points to a local copy instead, for the error.

    Raises:
        InputError: the file is neither in the local cache nor can it be downloaded.
    """
    cached = _find_cached(repository, filenames)
    if cached is not None:
        return cached
    refuse_download(f"{repository}/{filenames[0]}", f"{_hub_endpoint()}/{repository}/resolve/main/{filenames[0]}")
    remedy = f"set {setting} to a local copy"
    missing = f"{repository}/{filenames[0]} is not on this machine"
    _refuse_unreachable(missing, remedy)
    for filename in filenames:
        path = _download_from_hub(repository, filename, missing, remedy)
        if path is not None:
            return path
    raise InputError(f"{missing} and {_hub_endpoint()}/{repository} has no such file; check the name, or {remedy}")


def fetch_hub_folder(repository: str, any_of: Sequence[str], *, optional: Sequence[str], setting: str) -> Path:
    """The local folder of a hub repository's small files, such as those of a tokenizer.

    Args:
        repository: as in `timm/ViT-B-16-SigLIP`.
        any_of: files of which one must be there.
        optional: files that are taken along where there are any.
        setting: what points to a local folder instead, for the error.

    Raises:
        InputError: none of the files is in the local cache or can be downloaded.
    """
    cached = _find_cached(repository, any_of)
    if cached is not None:
        return cached.parent
    file = fetch_hub_file(repository, *any_of, setting=setting)
    for filename in optional:
        _download_from_hub(repository, filename, f"{repository}/{filename} is not on this machine", f"set {setting}")
    return file.parent


def _find_cached(repository: str, filenames: Sequence[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for filename in filenames:
        try:
            path = try_to_load_from_cache(repository, filename)
        except HFValidationError as error:
            raise InputError(f"{repository!r} is no name of a hub repository; it should read OWNER/NAME") from error
        if isinstance(path, str) and Path(path).is_file():
            return Path(path)
    return None


def _refuse_unreachable(missing: str, remedy: str) -> None:
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{missing} and HF_HUB_OFFLINE is set; {remedy}")
    try:
        status = requests.head(_hub_endpoint(), timeout=SECONDS).status_code
    except requests.exceptions.ProxyError as error:
        raise InputError(f"{missing} and the proxy of HTTPS_PROXY or HTTP_PROXY does not answer; {remedy}") from error
    except requests.exceptions.SSLError as error:
        raise InputError(f"{missing} and the certificate of {_hub_endpoint()} cannot be verified; {remedy}") from error
    except (requests.RequestException, ValueError) as error:
        mirror = " (of HF_ENDPOINT)" if os.environ.get("HF_ENDPOINT") else ""
        raise InputError(f"{missing} and {_hub_endpoint()}{mirror} cannot be reached; {remedy}") from error
    if status >= 500:  # huggingface_hub would ask again for half a minute
        raise InputError(f"{missing} and {_hub_endpoint()} is out of order (HTTP {status}); try later, or {remedy}")


def _download_from_hub(repository: str, filename: str, missing: str, remedy: str) -> Path | None:
    """The file; None where the repository has no such one."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it warns of each attempt; what fails in the end is said below

    page = f"{_hub_endpoint()}/{repository}"
    token = "HF_TOKEN" if os.environ.get("HF_TOKEN") else None
    try:
        return Path(hf_hub_download(repository, filename))
    except GatedRepoError as error:
        who = "the account of HF_TOKEN has not been granted access" if token else "HF_TOKEN is not set"
        raise InputError(f"{missing} and {page} is gated: {who}; ask for access there, or {remedy}") from error
    except RepositoryNotFoundError as error:
        who = "not open to the account of HF_TOKEN" if token else "private, and HF_TOKEN is not set"
        raise InputError(f"{missing} and {page} does not exist, or is {who}; check the name, or {remedy}") from error
    except LocalEntryNotFoundError as error:  # the hub did not answer as it should: what it said is the cause
        reason = _explain_hub_failure(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        raise InputError(f"{missing} and {page} cannot be downloaded ({reason}); {remedy}") from error
    except EntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        raise InputError(
            f"{missing} and {page} cannot be downloaded ({_explain_hub_failure(error)}); {remedy}"
        ) from error
    except RecursionError as error:  # each time it gets a little further, and huggingface_hub begins anew without end
        raise InputError(f"{missing} and its download was cut off hundreds of times; try later, or {remedy}") from error
    except (OSError, HTTPError) as error:  # cut off, of another size than announced, or a full disk
        raise InputError(
            f"{missing} and its download failed ({_explain_hub_failure(error)}); try again, or {remedy}"
        ) from error


def _explain_hub_failure(error: Exception) -> str:
    """A network error in a few words; its own text is a paragraph."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "HTTP 401: the token in HF_TOKEN is not accepted" if os.environ.get("HF_TOKEN") else "HTTP 401"
    if status is not None:
        return f"HTTP {status}"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _hub_endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
