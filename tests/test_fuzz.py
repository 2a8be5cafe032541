"""External files, changed at random: each is read or rejected in one sentence; a traceback fails the test.

Every input is changed a fixed number of times with a fixed seed. A change affects the file's bytes (truncated, flipped,
inserted, doubled) or a value in it (removed, or replaced by one of another type, size or sign).
"""

import copy
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT, assistant, user
from ladder.data.jsonl import read_rows
from ladder.models.checkpoint import load, read_rung
from ladder.models.weights import read_adapter
from ladder.pipeline import check
from ladder.pipeline.dvc_file import read_pipeline
from ladder.pipeline.names import name_faults
from ladder.pipeline.param_checks import params_faults
from ladder.pipeline.stage import UserError, fit, read_params, read_sections, read_yaml
from ladder.training.model_setup import climb
from perf.pico import pico_model, pico_tokenizer
from stages import base as base_stage
from stages import sft, source

ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 7, 0.5, 1e308, 10**9, 2**63, -(2**70), "", "x", "\x00", "é\u2028", "1e999", "../x"),
    *([], {}, [1], [None], [[]], {"a": 1}, {"": None}, [{}], "\ud800", "x" * 5000, "sk-abc123def456", "{{", "${x}"),
]
BYTES = [
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\n",
        b"{",
        b"]",
        b'"',
        b"\\",
        b"\\ud800",
        b"NaN",
        b"1e999",
        b"\t",
        b"&a",
        b"*a",
    )
]


def bytes_changed(content: bytes, chance: random.Random) -> bytes:
    place, length = chance.randrange(len(content) + 1), chance.randrange(1, 40)
    match chance.randrange(5):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + chance.choice(BYTES) + content[place:]
        case 2:
            return content[:place] + content[place + length :]
        case 3:
            return content[:place] + content[max(0, place - length) :]
        case _:
            flipped = bytes([content[place - 1] ^ (1 << chance.randrange(8))]) if content else b""
            return content[: max(0, place - 1)] + flipped + content[place:]


def places(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*keys, key)
        yield from places(one, (*keys, key))


def value_changed(value: Any, chance: random.Random) -> Any:
    changed = copy.deepcopy(value)
    found = list(places(changed))
    if not found:
        return chance.choice(ODD)
    # Half of the time short paths come first: a long list has many similar places.
    *path, last = chance.choice([keys for keys in found if len(keys) < 3] if chance.random() < 0.5 else found)
    at = changed
    for key in path:
        at = at[key]
    if chance.random() < 0.25:
        del at[last]
    else:
        at[last] = chance.choice(ODD)
    return changed


def json_changed(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.4:
        return bytes_changed(content, chance)
    return json.dumps(value_changed(json.loads(content), chance)).encode()


def lines_changed(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    lines[place] = json_changed(lines[place], chance).rstrip(b"\n") + b"\n"
    return b"".join(lines)


def header_changed(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another header, whose length is right half of the time, or with other bytes."""
    length = int.from_bytes(content[:8], "little")
    if chance.random() < 0.3:
        return bytes_changed(content[: 8 + length + 64], chance)
    header = json_changed(content[8 : 8 + length], chance)
    size = len(header) if chance.random() < 0.5 else chance.choice([0, 1, length, 2**31, 2**63 - 1, 2**64 - 1])
    return size.to_bytes(8, "little") + header + content[8 + length :]


def outcomes(
    path: Path, change: Callable[[bytes, random.Random], bytes], read: Callable[[], Any], count: int, seed: int = 0
) -> Counter[str]:
    """Count the changed files that were read and those that were rejected, and restore the file afterwards."""
    content, found = path.read_bytes(), Counter[str]()
    for number in range(count):
        chance = random.Random(f"{seed} {path.name} {number}")
        path.write_bytes(change(content, chance))
        try:
            read()
            found["read"] += 1
        except UserError as refusal:
            sentence = str(refusal)
            assert sentence.strip() and "\n" not in sentence and len(sentence) < 4100, (number, sentence)
            assert "Traceback" not in sentence, (number, sentence)
            found["refused"] += 1
        except BaseException as error:
            error.add_note(f"{path.name}, change {number}")
            shutil.copy(path, path.with_name(f"failed-{number}"))
            raise
    path.write_bytes(content)
    return found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the real params.yaml, dvc.yaml and dvc.lock, and the stages' modules."""
    for name in ("params.yaml", "links.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("stages", "ladder", "benchmarks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL_PARAMS = """\
base:
  source: hub:org/tiny@0123456789abcdef0123456789abcdef01234567
  sha256: null
  dtype: bfloat16
prompts:
  count: {sft: 2, preferences: 2, heldout: 2}
  seed: 0
  constraints_max: 1
sft:
  chat: &chat
    parent: base
    data: filter/chat
    lora: {r: 4, lora_alpha: 8}
    trainer: {learning_rate: 1.0e-3, num_train_epochs: 1, per_device_train_batch_size: 8, warmup_steps: 2, seed: 42}
  words:
    <<: *chat
    validation: {share: 0.05}
dpo:
  chat:
    parent: sft/chat
    data: reference_logprobs/chat
    lora: continue
    trainer: {beta: 0.1, loss_type: [sigmoid, sft], loss_weights: [1.0, 0.2], max_length: 256, learning_rate: 2.0e-4}
report:
  benchmarks: [ifeval]
  rungs: [base, sft/chat]
gate: {}
"""


def check_params() -> None:
    """`check` of params.yaml, which precedes DVC and runs in every stage."""
    params = read_sections()
    faults = [*name_faults(params), *params_faults(params, read_pipeline(), {})]
    if faults:
        assert all(fault.sentence and "\n" not in fault.sentence for fault in faults)
        raise UserError(faults[0].sentence)
    read_params()


def yaml_changed(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return bytes_changed(content, chance)
    value = value_changed(json.loads(json.dumps(PARSED)), chance)
    return json.dumps(value).encode()  # JSON is YAML


PARSED: dict[str, Any] = {}


def test_params(repository: Path) -> None:
    path = repository / "params.yaml"
    path.write_text(SMALL_PARAMS)
    PARSED.update(read_yaml(path))
    check_params()
    found = outcomes(path, yaml_changed, check_params, 200)
    assert found["refused"] > 100 and found.total() == 200


def test_dvc_lock(repository: Path) -> None:
    path = repository / "dvc.lock"
    path.write_text(LOCK)

    def recorded() -> None:
        if fault := check._unreadable_lock():
            raise UserError(fault)
        check._recorded_params()

    found = outcomes(path, bytes_changed, recorded, 300)
    assert found["refused"] > 30 and found.total() == 300


LOCK = """\
schema: '2.0'
stages:
  base:
    cmd: python -m stages.base data/templates models/base metrics/base.json
    deps:
    - path: code/base.txt
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 10
    params:
      params.yaml:
        base: {source: a, sha256: b}
    outs:
    - path: models/base
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 10
      nfiles: 2
"""


def test_rung_json(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    found = outcomes(tmp_path / "base/rung.json", json_changed, lambda: read_rung(tmp_path / "base"), 300)
    assert found["refused"] > 100 and found.total() == 300


ROWS = [
    {"prompt": user("Say 1."), "completion": assistant("It is 1.")},
    {"messages": [*user("Say 2."), *assistant("It is 2.")], "id": "two"},
    {"prompt": user("Say 3."), "chosen": assistant("3!"), "rejected": assistant("3 or so")},
    {"prompt": "Say 4.", "completion": "4", "label": True},
    {"conversations": [{"from": "human", "value": "Say 5."}, {"from": "gpt", "value": "5"}]},
]


def test_rows_of_a_source(tmp_path: Path) -> None:
    raw, outputs = tmp_path / "raw", [tmp_path / name for name in ("rows.jsonl", "broken.jsonl", "metrics.json")]
    raw.mkdir()
    path = raw / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2] + ROWS[4:]))
    section = {"source": "rows.jsonl", "license": "mit", "max_broken": 0.5, "ignore": ["id"]}
    section = {name: value for name, value in section.items() if name in source.Params.model_fields}
    params = fit(source.Params, section, "source.a")

    def read() -> None:
        source.main(params, raw, *outputs)
        read_rows(outputs[0])

    found = outcomes(path, lines_changed, read, 400)
    assert found["read"] > 100 and found.total() == 400


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS[1:2]], ids=["completion", "messages"])
def test_rows_that_are_trained(rows: list[Any], tmp_path: Path) -> None:
    tokenizer, path = pico_tokenizer(), tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 2))
    found = outcomes(path, lines_changed, lambda: sft.token_rows(read_rows(path), path, tokenizer, None), 300)
    assert found["refused"] > 100 and found.total() == 300


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in the hub's layout, in two shards."""
    folder = tmp_path_factory.mktemp("released")
    tokenizer = pico_tokenizer()
    pico_model(tokenizer).to(torch.bfloat16).save_pretrained(folder, max_shard_size="40KB")
    tokenizer.save_pretrained(folder)
    return folder


FILES = {
    "config.json": (json_changed, 150),
    "generation_config.json": (json_changed, 30),
    "tokenizer.json": (json_changed, 100),
    "tokenizer_config.json": (json_changed, 80),
    "chat_template.jinja": (bytes_changed, 40),
    "model.safetensors.index.json": (json_changed, 40),
    "model-00001-of-00002.safetensors": (header_changed, 60),
}


@pytest.mark.parametrize("name", FILES)
def test_a_released_model(name: str, released: Path, tmp_path: Path) -> None:
    change, count = FILES[name]
    params = base_stage.Params(source=str(released))
    outputs = [tmp_path / "models/base", tmp_path / "metrics.json"]
    found = outcomes(released / name, change, lambda: base_stage.main(params, tmp_path, *outputs), count)
    assert found.total() == count and found["refused"]


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    climb(base, base, {"r": 2}, seed=0).start.model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "change", "count"),
    [("adapter_config.json", json_changed, 150), ("adapter_model.safetensors", header_changed, 60)],
)
def test_an_adapter(name: str, change: Any, count: int, adapter: Path, base: Path) -> None:
    def read() -> None:
        read_adapter(load(base, base).model, adapter)

    found = outcomes(adapter / name, change, read, count)
    assert found.total() == count and found["refused"]
