"""Commands that ship a rung: export, model card, upload, chat and server."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli.names import rung_names
from ladder.cli.output import Json, messages_on_stderr, print_json


class Form(StrEnum):
    """Form of an exported rung."""

    merged = "merged"
    adapter = "adapter"
    gguf = "gguf"


class GgufType(StrEnum):
    """Type of the matrices in a GGUF file."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


Rung = Annotated[
    str,
    typer.Argument(metavar="RUNG", help="Name of a rung, such as sft/words, or its folder.", autocompletion=rung_names),
]
As = Annotated[Form, typer.Option("--as", help="merged: safetensors; adapter: for peft; gguf: for llama.cpp.")]
Type = Annotated[GgufType, typer.Option("--gguf-type", help="Type of matrices in a GGUF file.")]
BaseModel = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Address of an adapter's base for its users: ORG/NAME@COMMIT, or a path."),
]
License = Annotated[
    str | None, typer.Option(metavar="ID", help="License of the weights in the card; default that of the base.")
]


def export(
    rung: Rung,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="New or empty folder to write.")],
    form: As = Form.merged,
    gguf_type: Type = GgufType.f16,
    base_model: BaseModel = None,
    license: License = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the export that is in the folder.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not load the result to compare it with the rung.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a rung for other programs: merged weights, adapter or GGUF, with tokenizer, chat template and card.

    The result is loaded by transformers alone, and its greedy answers are compared with those of the rung. Exit code 1
    if the folder has content, or the rung does not have this form.
    """
    quiet()
    with messages_on_stderr(as_json):
        from ladder.ship.export import export as write

        made = write(
            rung, to, form.value, gguf_type=gguf_type.value, base_model=base_model, force=force, license=license,
            verify=not no_verify,
        )  # fmt: skip
    if as_json:
        print_json({**made.document(), "folder": str(to)})
        return
    print_files(made.files)
    if made.base:
        named = f"{made.base['address']}{'@' + made.base['revision'] if made.base['revision'] else ''}"
        print(f"base: {made.base['identity'][:12]}, source {made.base['source']}; adapter_config.json names {named}")
    if made.agreement:
        from ladder.ship.export import sentence

        print(sentence(made.agreement))
    print(f"{to}: {made.rung.rung} as {form.value}, {sum(made.files.values()) / 1e6:.1f} MB")


def card(
    rung: Rung,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write; default stdout.")] = None,
    license: License = None,
) -> None:
    """Print a rung's model card for the Hugging Face Hub: lineage, licenses, scores with intervals, settings.

    It is made from report/table.json, dvc.lock and the rung.json of the rungs that are here; no weights are read. Exit
    code 1 if the rung is unknown.
    """
    from ladder.ship.model_card import card as text_of
    from ladder.ship.rung_folder import rung_title

    text = text_of(rung_title(rung), license=license)
    if to is None:
        print(text, end="")
    else:
        from ladder.data.jsonl import write_text

        write_text(to, text)
        print(f"{to}: written")


def push(
    rung: Rung,
    repository: Annotated[str, typer.Argument(metavar="REPO_ID", help="Repository of the hub: ORG/NAME.")],
    form: As = Form.merged,
    gguf_type: Type = GgufType.f16,
    base_model: BaseModel = None,
    license: License = None,
    exported: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Upload this earlier export of the rung.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Create a public repository; default private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Upload; without it the files are only listed.")] = False,
    as_json: Json = False,
) -> None:
    """Upload a rung to the Hugging Face Hub; without --yes, print every file and the card, and upload nothing.

    The token is the environment variable HF_TOKEN. A repository that exists keeps its visibility. Exit code 1 if the
    hub refuses.
    """
    quiet()
    with messages_on_stderr(as_json):
        from ladder.ship.push import push as upload_rung

        upload, address = upload_rung(
            rung, repository, form.value, exported=exported, gguf_type=gguf_type.value, base_model=base_model,
            license=license, private=not public, send_it=yes,
        )  # fmt: skip
    if as_json:
        print_json({**upload.document(), "uploaded": address})
        return
    if not yes:
        print(f"{upload.card}\n")
    print_files(upload.files)
    visibility = "public" if public else "private"
    end = f"uploaded: {address}" if yes else f"nothing was uploaded; --yes uploads to a {visibility} repository"
    print(f"{repository}: {len(upload.files)} files, {upload.bytes / 1e6:.1f} MB; {end}")


def chat(
    rung: Rung,
    other: Annotated[
        str | None,
        typer.Argument(metavar="RUNG2", help="Second rung, to compare.", autocompletion=rung_names),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum tokens of an answer.")] = 512,
    temperature: Annotated[float, typer.Option(metavar="T", min=0, help="Sampling temperature; 0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(metavar="P", min=0.01, max=1, help="Nucleus of sampling.")] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of sampling.")] = 0,
) -> None:
    """Chat with one rung, or with two side by side.

    /reset starts a new conversation, /quit ends. Without a terminal, each line of stdin is a turn, and each answer is
    one block on stdout. Exit code 1 if a rung is unknown, or a script's turn is refused.
    """
    quiet()
    from ladder.inference.types import Sampling
    from ladder.ship.rung_folder import rung_folder

    folders = [rung_folder(name) for name in (rung, other) if name is not None]
    from ladder.ship.speaker import Speaker
    from ladder.ship.terminal_chat import chat as talk

    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)
    talk([Speaker(folder) for folder in folders], sampling, system, sys.stdin, sys.stdout)


def serve(
    rung: Rung,
    other: Annotated[
        str | None,
        typer.Argument(metavar="RUNG2", help="Second rung to serve.", autocompletion=rung_names),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    max_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum tokens of an answer whose request gives no maximum.")
    ] = 512,
) -> None:
    """Serve rungs by OpenAI's API, /v1/chat/completions and /v1/models, with a chat page at /.

    Request keys: messages, max_tokens, temperature, top_p, seed, stop, stream. A key that is not served is refused
    with status 400. There is no authentication: anyone who reaches the address can use the rung. Needs the extra serve.
    """
    quiet()
    from ladder.ship.rung_folder import rung_folder

    folders = [rung_folder(name) for name in (rung, other) if name is not None]
    from ladder.ship.serving import serve as run

    run(folders, host, port, max_tokens)


def print_files(files: dict[str, int]) -> None:
    """Print the size in bytes and the name of each file."""
    width = max(len(f"{size:,}") for size in files.values())
    print("".join(f"{size:>{width},} bytes  {name}\n" for name, size in files.items()), end="")


def quiet() -> None:
    """Hide the warning of bitsandbytes about a missing 4-bit kernel."""
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


COMMANDS: tuple[tuple[Any, str], ...] = (
    (export, "ladder export sft/words --to ../words"),
    (card, "ladder card sft/words --to README.md"),
    (push, "ladder push sft/words ORG/NAME"),
    (chat, "ladder chat sft/words base"),
    (serve, "ladder serve sft/words --port 8000"),
)
"""Each command with its example."""
