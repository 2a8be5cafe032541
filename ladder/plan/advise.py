"""Which method fits a problem: five questions, a decision table, a recipe and the next command.

The table goes from cheap to expensive: a prompt, retrieval, SFT, preferences (DPO), reinforcement learning,
distillation, merging. Each row needs the gap to be of its kind, and data that teaches it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import typer

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import adapter
from ladder.plan.compute import gpu as gpu_of
from ladder.plan.compute import rates
from ladder.plan.memory import Method, Step, memory
from ladder.plan.sources import read_config
from ladder.plan.tables import FITS, LABELS
from ladder.plan.weights import text_config, weights


class Question(NamedTuple):
    """One question, with its answers and their meaning."""

    name: str
    text: str
    answers: dict[str, str]


QUESTIONS = (
    Question(
        "gap",
        "What is missing in the answers?",
        {
            "facts": "facts that change, or documents that the model has not seen",
            "style": "a format, a tone or a task that you can show by examples",
            "preference": "the better of two answers that are both correct",
            "correctness": "right answers that a program can check: maths, code, constraints",
            "cost": "speed or price: a larger model already answers well",
            "combine": "skills that two trained models have, in one model",
        },
    ),
    Question(
        "prompted",
        "Did you measure the best prompt with examples in it, on held-out questions?",
        {"no": "not measured yet", "yes": "measured, and it is not good enough"},
    ),
    Question(
        "data",
        "What do you have?",
        {
            "examples": "questions with good answers",
            "pairs": "questions with a better and a worse answer, or answers with thumbs up or down",
            "checks": "questions, and code that checks an answer",
            "teacher": "questions, and a larger model that answers them",
            "models": "trained models with the same base",
            "none": "none of these",
        },
    ),
    Question("rows", "How many questions?", {}),
    Question("gpu", "Which GPU?", {}),
)


@dataclass(frozen=True)
class Advice:
    """What to do next."""

    method: str
    """One of: prompting, RAG, SFT, DPO, KTO, GRPO, distillation, merging."""
    why: str
    first: str
    """What to do before; empty if there is nothing."""
    memory: str
    """Which kind of adapter fits the GPU; empty if nothing is trained."""
    measure: str
    recipe: str | None
    """File of recipes/, or None."""
    commands: tuple[str, ...]
    page: str


class Answers(NamedTuple):
    """Answers to the five questions."""

    gap: str
    prompted: str
    data: str
    rows: int
    gpu: str


FEW = {"SFT": 50, "DPO": 200, "KTO": 200, "GRPO": 100, "distillation": 500}
"""Rows below which a method seldom shows a gain beyond its confidence interval; a rule of thumb."""


def checked(given: dict[str, str]) -> Answers:
    """Check answers that were given as text. Errors: UserError that names the option."""
    for question in QUESTIONS[:3]:
        if given[question.name] not in question.answers:
            raise UserError(
                f"--{question.name}: expected one of {', '.join(question.answers)}, got {given[question.name]!r}"
            )
    if not given["rows"].isdecimal():
        raise UserError(f"--rows: expected a whole number of at least 0, got {given['rows']!r}")
    if given["gpu"] != "cpu":
        gpu_of(given["gpu"])
    return Answers(given["gap"], given["prompted"], given["data"], int(given["rows"]), given["gpu"])


def ask(given: dict[str, str]) -> Answers:
    """Ask the questions that have no answer yet, on the terminal; an answer that does not fit is asked for again."""
    answers = dict(given)
    for question in QUESTIONS:
        if answers[question.name]:
            continue
        typer.echo(question.text)
        for answer, meaning in question.answers.items():
            typer.echo(f"  {answer}: {meaning}")
        fallback = {"rows": "0", "gpu": "cpu"}
        choices = list(question.answers) or ([*rates()["gpus"], "cpu"] if question.name == "gpu" else [])
        while True:
            default = fallback.get(question.name)
            found = str(typer.prompt(", ".join(choices) or "number", default=default)).strip()
            if found in choices or (not choices and found.isdecimal()):
                break
            typer.echo(f"expected {'one of ' + ', '.join(choices) if choices else 'a whole number'}, got {found!r}")
        answers[question.name] = found
    return checked(answers)


def decide(answers: Answers) -> tuple[str, str]:
    """Return (method, reason) of the decision table."""
    gap, data = answers.gap, answers.data
    if answers.prompted == "no" and gap not in ("facts", "cost", "combine"):
        return "prompting", "a prompt with a few examples costs nothing to change, and is the baseline of all training"
    if gap == "facts":
        return "RAG", "training teaches behavior; facts that change belong in the context, where they can be cited"
    if gap == "combine" or data == "models":
        return "merging", "models with one base can be merged on a CPU within minutes, without data"
    if gap == "cost" or (data == "teacher" and gap != "correctness"):
        return (
            "distillation",
            "a larger model already has the behavior, and a smaller one learns it from its answers",
        )
    if data == "pairs":
        return "DPO", "pairs state which of two answers is better, which no single example does"
    if data == "checks":
        return "GRPO", "a program that checks answers is a reward; the model learns from its own samples"
    if gap == "preference" and data == "none":
        return "DPO", "pairs can be made: sample answers of your own model, and rank them by checks or a judge"
    if gap == "correctness" and data == "none":
        return "GRPO", "write the check first: code that verifies an answer is worth more than examples"
    return "SFT", "examples of the wanted answer teach format, tone and task directly"


PLANS: dict[str, tuple[str | None, tuple[str, ...], str]] = {
    "prompting": (None, ("ladder bench ifeval --model http://HOST/v1 --name MODEL",), "docs/scoring.md"),
    "RAG": (None, ("ladder bench ifeval --model http://HOST/v1 --name MODEL",), "docs/scoring.md"),
    "SFT": ("recipes/data.yaml", ("dvc repro sft@words",), "docs/own-data.md"),
    "DPO": ("recipes/data.yaml", ("dvc repro dpo@words",), "docs/methods.md"),
    "GRPO": ("recipes/guide.yaml", ("dvc repro grpo@words",), "docs/methods.md"),
    "distillation": ("recipes/guide.yaml", ("dvc repro distill@logits",), "docs/methods.md"),
    "merging": (None, ("dvc repro merge@skills",), "docs/methods.md"),
}
"""Recipe, command and page of each method."""
MEASURES = {
    "prompting": "score the best prompt on at least 100 held-out questions, with its interval",
    "RAG": "measure retrieval alone first: is the passage with the answer among those found?",
    "SFT": "compare with the prompt on the same questions; watch for losses elsewhere (gate)",
    "DPO": "compare with the SFT rung, and look at the length of the answers",
    "GRPO": "score held-out questions, not the reward; look at samples for exploits of the check",
    "distillation": "KL divergence from the teacher, and the benchmark on which the student must not lose",
    "merging": "score each parent's skill on the merge",
}


def advise(answers: Answers, model: str = "SmolLM2-135M") -> Advice:
    """Return the advice for five answers. Errors: UserError for an unknown model."""
    method, why = decide(answers)
    recipe, commands, page = PLANS[method]
    if recipe is None and method not in ("prompting", "RAG", "merging"):
        recipe = "recipes/guide.yaml"
    if method == "distillation" and answers.data == "none":
        recipe, commands = "recipes/synthesize.yaml", ("dvc repro filter@evolved",)
    if method in ("SFT",) and answers.data in ("none", "teacher"):
        recipe, commands = "recipes/synthesize.yaml", ("dvc repro filter@evolved",)
    steps = tuple([f"ladder recipe {recipe}"] if recipe else []) + commands
    first = ""
    few = FEW.get(method, 0)
    if answers.rows < few:
        first = f"{answers.rows:,} rows are few for {method}; collect at least {few}, or generate and filter more"
    if method in ("DPO", "GRPO") and answers.gap != "preference" and not first:
        first = "start from an SFT rung: the method only raises what the model already does sometimes"
    return Advice(
        method, why, first, _memory(answers.gpu, model) if method in FEW else "", MEASURES[method], recipe, steps, page
    )


def _memory(gpu: str, model: str) -> str:
    """Return which kind of training fits: all weights, LoRA, then QLoRA, at 4 rows of 1,024 tokens."""
    config, _ = read_config(model)
    if gpu == "cpu":
        return f"without a GPU, LoRA on {model}; models over 1B are too slow to train"
    found, room = weights(config), gpu_of(gpu)["memory_gb"] * 1e9 * FITS
    kind = text_config(config).get("model_type")
    methods: tuple[Method, ...] = ("full", "lora", "qlora")
    for checkpointing in (False, True):
        for method in methods:
            made = None if method == "full" else adapter(found, {"r": 16}, kind)
            step = Step(4096, method=method, checkpointing=checkpointing)
            need = memory(config, found, step, made).on_gpu
            if need <= room:
                how = " with gradient checkpointing" if checkpointing else ""
                return f"{model} fits {gpu} with {LABELS[method]}{how}: {need / 1e9:.1f} GB at 4 rows of 1,024 tokens"
    return f"{model} does not fit {gpu}; expected a smaller model, or launch/fsdp2.yaml over several GPUs"
