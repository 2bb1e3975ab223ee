"""`python -m cd_exp.verify RUN [--sign KEY | --signed-by FILE] [--json]`: whether a run folder is as it was written.

Signatures are those of OpenSSH (`ssh-keygen -Y`); nothing cryptographic but SHA-256 is done here.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cd_exp.errors import InputError, OneLineParser, of_the_machine
from cd_exp.io.atomic import write_file
from cd_exp.io.digests import DIGESTS, SIGNATURE, FileChanges, compare_digests, read_digests
from cd_exp.io.text import escape_for_terminal

NAMESPACE = "digests@cd-exp"
"""What signatures are for: one that was made for mail or a commit does not count here."""
UNSIGNED = (
    "without a signature a rewritten digests.json is not detected; sign with --sign KEY, check with --signed-by FILE"
)
KEY_TYPES = ("ssh-", "ecdsa-", "sk-")


class BadSignature(Exception):
    """A signature is missing, of another key, or of other bytes. The message says which."""


def verify_folder(folder: Path) -> FileChanges:
    """What differs in a run or sweep folder from its `digests.json`.

    Raises:
        InputError: there is no such folder, or it has no `digests.json`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give that of a run, such as outputs/runs/DATE_TIME")
    return compare_digests(folder)


def sign_digests(folder: Path, key: Path) -> Path:
    """Sign `digests.json` with a private key of OpenSSH, or by its public key through the agent.

    Returns:
        The signature, `digests.json.sig`.

    Raises:
        InputError: the key is missing or cannot sign.
    """
    if not key.expanduser().is_file():
        raise InputError(f"--sign {key}: there is no such file; give a private key, such as ~/.ssh/id_ed25519")
    arguments = ["sign", "-q", "-f", str(key.expanduser()), "-n", NAMESPACE]
    signature = _ask_ssh_keygen(arguments, (folder / DIGESTS).read_bytes())
    if signature.returncode:
        raise InputError(f"--sign {key}: ssh-keygen cannot sign with it: {_last_line(signature.stderr)}")
    write_file(folder / SIGNATURE, signature.stdout)
    return folder / SIGNATURE


def check_signature(folder: Path, signers: Path) -> str:
    """Whose signature `digests.json.sig` is: one of the keys in `signers`.

    Args:
        folder: of the run.
        signers: a public key, or OpenSSH's file of allowed signers (`NAME KEY` on each line).

    Raises:
        InputError: `signers` cannot be read.
        BadSignature: there is no signature that one of these keys made of this file.
    """
    if not signers.expanduser().is_file():
        raise InputError(
            f"--signed-by {signers}: there is no such file; give a public key, or a file of allowed signers"
        )
    if not (folder / SIGNATURE).is_file():
        raise BadSignature(f"{folder} has no {SIGNATURE}: it is not signed")
    text = signers.expanduser().read_text(encoding="utf-8", errors="replace")
    if text.startswith(KEY_TYPES):
        text = "".join(f"{signers.name} {line}\n" for line in text.splitlines() if line.startswith(KEY_TYPES))
    with tempfile.TemporaryDirectory() as scratch:
        allowed = Path(scratch) / "allowed_signers"
        allowed.write_text(text, encoding="utf-8")
        files = ["-f", str(allowed), "-s", str(folder / SIGNATURE)]
        data = (folder / DIGESTS).read_bytes()
        names = _ask_ssh_keygen(["find-principals", *files], data)
        if names.returncode:
            raise BadSignature(f"{SIGNATURE} is of none of the keys in {signers}")
        name = names.stdout.decode(errors="replace").splitlines()[0].split(",")[0]
        checked = _ask_ssh_keygen(["verify", *files, "-I", name, "-n", NAMESPACE], data)
    if checked.returncode:
        raise BadSignature(
            f"{SIGNATURE} does not fit {DIGESTS}, which was written again since: {_last_line(checked.stderr)}"
        )
    return name


def _ask_ssh_keygen(arguments: list[str], data: bytes) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(["ssh-keygen", "-Y", *arguments], input=data, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InputError("signatures need ssh-keygen of OpenSSH 8.2 or later, which is not installed") from error


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


def describe_verification(folder: Path, *, sign: Path | None, signed_by: Path | None) -> dict[str, Any]:
    """All that `verify` says of a folder, as plain values; a folder that has changed is not signed.

    Raises:
        InputError: as `verify_folder`, `sign_digests` and `check_signature`.
    """
    changes = verify_folder(folder)
    said: dict[str, Any] = {"folder": str(folder), "unchanged": not changes}
    said |= {"missing": list(changes.missing), "added": list(changes.added), "changed": list(changes.changed)}
    said["files"] = 0 if DIGESTS in changes.changed else len(read_digests(folder))
    if sign is not None:
        if changes:
            raise InputError(f"{folder} has changed since it was written, and is not signed; see it without --sign")
        said["signature"] = str(sign_digests(folder, sign))
    elif signed_by is not None:
        try:
            said["signed_by"] = check_signature(folder, signed_by)
        except BadSignature as error:
            said |= {"unchanged": False, "signature_error": str(error)}
    else:
        said["note"] = UNSIGNED
    return said


def show_verification(said: dict[str, Any]) -> None:
    """One line per changed file, then one on the whole."""
    for kind in ("missing", "added", "changed"):
        for name in said[kind]:
            print(escape_for_terminal(f"{kind}: {name}"))
    if "signature_error" in said:
        print(escape_for_terminal(f"signature: {said['signature_error']}"))
    count = sum(len(said[kind]) for kind in ("missing", "added", "changed"))
    listed = f"{said['files']} listed files"
    print(escape_for_terminal(f"{said['folder']}: {listed}, {f'{count} changed' if count else 'unchanged'}"))
    if "signature" in said:
        print(escape_for_terminal(f"signed: {said['signature']}"))
    if "signed_by" in said:
        print(escape_for_terminal(f"signed by {said['signed_by']}"))
    if "note" in said:
        print(f"note: {said['note']}")


def main(arguments: list[str] | None = None) -> int:
    """Verify the folder named on the command line.

    Returns:
        The exit status: 0 unchanged, 1 changed or not signed by whom it should be, 2 for what the user can mend.
    """
    parser = OneLineParser(
        prog="python -m cd_exp.verify",
        description="Compare every file of a run folder with the SHA-256 that digests.json has of it.",
        epilog="Exit status: 0 unchanged, 1 changed or a wrong signature, 2 nothing to verify.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a run or a sweep")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--sign", type=Path, metavar="KEY", help="sign digests.json with a private key of OpenSSH")
    which.add_argument(
        "--signed-by", type=Path, metavar="FILE", help="check the signature: a public key, or a file of allowed signers"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        said = describe_verification(options.folder, sign=options.sign, signed_by=options.signed_by)
    except (InputError, OSError) as error:
        refused = error if isinstance(error, InputError) else of_the_machine(error)
        if refused is None:
            raise
        return fail(refused, as_json=options.json)
    if options.json:
        print(json.dumps(said, indent=1))
    else:
        show_verification(said)
    return 0 if said["unchanged"] else 1


def fail(error: Exception, *, as_json: bool) -> int:
    """Say an error, as JSON on standard output where that was asked for; the exit status of it, 2."""
    message = " ".join(str(error).split())
    if as_json:
        print(json.dumps({"error": message}))
    else:
        print(f"error: {escape_for_terminal(message)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
