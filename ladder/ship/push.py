"""Upload an exported rung to the Hugging Face Hub."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ladder.data.atomic_write import scratch
from ladder.data.jsonl import read_json
from ladder.models.rung import read_description
from ladder.pipeline.errors import UserError
from ladder.pipeline.launch import cache
from ladder.ship.export import RECORD, Form, export
from ladder.ship.rung_folder import rung_folder

TOKEN = "HF_TOKEN"


class Upload(NamedTuple):
    """Files of an export that go to a repository."""

    repository: str
    private: bool
    folder: Path
    files: dict[str, int]
    """Size of each file in bytes, by name."""
    card: str

    @property
    def bytes(self) -> int:
        return sum(self.files.values())

    def document(self) -> dict[str, Any]:
        """Return the upload for --json."""
        visible = {"repository": self.repository, "private": self.private, "files": self.files, "bytes": self.bytes}
        return {**visible, "card": self.card}


def push(
    rung: str,
    repository: str,
    form: Form,
    *,
    exported: Path | None = None,
    gguf_type: str = "f16",
    base_model: str | None = None,
    license: str | None = None,
    private: bool = True,
    send_it: bool = False,
) -> tuple[Upload, str | None]:
    """Export a rung and upload it; return the files and the commit's address, None without `send_it`.

    exported: an earlier export of this rung, which is uploaded as it is. The others are as for `export`.
    Errors: UserError as for `planned`, `export` and `send`.
    """
    check_repository(repository)
    identity = read_description(rung_folder(rung)).identity
    if exported is not None:
        upload = planned(exported, repository, identity, private=private)
        return upload, send(upload) if send_it else None
    with scratch(cache() / "push") as folder:
        export(rung, folder / "export", form, gguf_type=gguf_type, base_model=base_model, license=license)
        upload = planned(folder / "export", repository, identity, private=private)
        return upload, send(upload) if send_it else None


def planned(folder: Path, repository: str, identity: str, *, private: bool) -> Upload:
    """List the files of an export. identity: SHA-256 of the rung.json that it must have been made from.

    Errors: UserError for an invalid name of a repository, a folder without an export, and one of another rung.
    """
    check_repository(repository)
    if not (folder / RECORD).is_file():
        raise UserError(f"--from: {folder}/{RECORD}: no such file; expected a folder that `ladder export` wrote")
    made_from = read_json(folder / RECORD)["rung"]
    if made_from["identity"] != identity:
        raise UserError(
            f"--from: {folder} is an export of {made_from['name']} {made_from['identity'][:12]}; expected "
            f"{identity[:12]}, the rung that is here. Export it again."
        )
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    card = folder / "README.md"
    return Upload(repository, private, folder, files, card.read_text(encoding="utf-8") if card.is_file() else "")


def check_repository(name: str) -> None:
    """Check the name of a repository, ORG/NAME. Errors: UserError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"REPO_ID: {' '.join(str(error).split())}") from None
    if "/" not in name:
        raise UserError(f"REPO_ID: expected ORG/NAME, got {name}")


def send(upload: Upload) -> str:
    """Create the repository if it is new, upload all files in one commit, and return the commit's address.

    A repository that exists keeps its visibility. The token comes from HF_TOKEN alone, never from a file.
    Errors: UserError without a token, or as the hub reports it.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"environment variable {TOKEN}: unset or empty; expected a token with write access to the hub")
    hub = HfApi(token=token)
    try:
        hub.create_repo(upload.repository, private=upload.private, exist_ok=True)
        made = hub.upload_folder(
            repo_id=upload.repository,
            folder_path=upload.folder,
            allow_patterns=list(upload.files),
            commit_message=f"Upload {upload.repository.rpartition('/')[2]}",
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError) as error:
        raise UserError(f"REPO_ID: {upload.repository}: {' '.join(str(error).split())}") from None
    return str(made.commit_url)
