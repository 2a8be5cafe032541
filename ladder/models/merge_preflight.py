"""Validate and plan a merge from its configuration, config.json files and tensor headers, before weights are read."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit.architecture import ModelArchitecture, get_architecture_info
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import SaveTensor
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from transformers import PretrainedConfig
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from ladder.models.checkpoint import Rung, check_base, check_same_tokenizer, read_rung
from ladder.models.merge_config import named_models, with_paths
from ladder.models.tied_embeddings import untied
from ladder.models.weights import check_files, read_config, tensor_shapes
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import UserError

PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")  # config.json lists with one item per layer
NOT_COMPARED = {"_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "use_cache", *PER_LAYER}
NOT_COMPARED |= {"tie_word_embeddings"}  # if one rung has an output layer, a tied rung's embedding serves as its own


@dataclass(frozen=True)
class Source:
    """One input model of a merge. An adapter has the configuration and tensor shapes of the merged complete model."""

    directory: Path
    rung: Rung
    config: PretrainedConfig
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """A validated merge: inputs, output configuration, mergekit tasks and weights."""

    config: dict[str, Any]
    sources: dict[str, Source]
    """Input models by name, in the order in which the configuration names them."""
    output: PretrainedConfig
    """config.json of the merged model."""
    tasks: list[ExecuteMergeMethodTask]
    """mergekit tasks, one per output tensor, with the parameters that apply to it."""
    weights: list[dict[str, float]]
    """Per output tensor: model name to weight. Empty if the method has no weights."""

    def shares(self, number: int) -> dict[str, float]:
        """Coefficients c_i of an output tensor, sum_i c_i theta_i, under linear or task arithmetic."""
        weights, shared = self.weights[number], self.tasks[number].parameters
        total = sum(weights.values())
        if self.config["merge_method"] == "linear":
            return {name: weight / (total if shared["normalize"] else 1) for name, weight in weights.items()}
        scale = shared["lambda"] / (total if shared["normalize"] and abs(total) >= 1e-8 else 1)
        moved = {name: scale * weight for name, weight in weights.items()}
        return {self.config["base_model"]: 1 - sum(moved.values()), **moved}

    def remark(self) -> str | None:
        """Note on the effect of `linear` weights that do not sum to 1; None if they do or the method is another."""
        sums = sorted({round(sum(weights.values()), 6) for weights in self.weights})
        if self.config["merge_method"] != "linear" or sums == [1.0]:
            return None
        shown = ", ".join(f"{total:g}" for total in sums)
        if self.tasks[0].parameters["normalize"]:
            return f"the weights sum to {shown}; linear divides by the sum"
        return f"the weights sum to {shown} with normalize: false; the result is the mean times that sum"


def plan(config: dict[str, Any], directories: list[Path], base: Path) -> Plan:
    """Plan a merge of the rungs in `directories` (and of `base` if the configuration names it); no weights are read.

    Errors: UserError for a model that is not among the inputs or is not used; for tokenizers, chat templates,
    configurations, tensor names or tensor shapes that differ; for a layer out of range; and for any error that
    mergekit's planner raises.
    """
    given = {read_rung(directory).rung: directory for directory in [base, *directories]}
    names = list(dict.fromkeys(named_models(config)))
    unknown = sorted(set(names) - set(given))
    if unknown:
        raise UserError(
            f"merge config names {unknown}{did_you_mean(unknown[0], given)}; "
            f"its parents are {[read_rung(each).rung for each in directories]}"
        )
    unused = sorted(set(given) - set(names) - {read_rung(base).rung})
    if unused:
        raise UserError(
            f"merge config: the parents {unused} are not used. Name them in it, or remove them from parents."
        )
    sources = {name: _source(given[name], base) for name in names}
    first = sources[names[0]]
    for source in sources.values():
        check_same_tokenizer(first.rung, source.rung)
        _check_same_config(first, source, layers="slices" not in config)
    _check_layers(config, sources)
    output = _output_config(config, sources)
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        links = {name: Path(folder) / str(number) for number, name in enumerate(names)}
        for name, source in sources.items():
            directory = base if source.rung.kind == "adapter" else source.directory
            links[name].symlink_to(directory.resolve(), target_is_directory=True)
        try:
            tasks, architecture = merge_tasks(config, links, output)
        except (RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            for name, path in links.items():
                said = said.replace(str(path), name)
            raise UserError(f"merge config: {said}") from None
    called = {str(path): name for name, path in links.items()}
    _check_tensors(tasks, sources, called, architecture)
    return Plan(config, sources, output, tasks, [_weights(task, called, config["merge_method"]) for task in tasks])


def merge_tasks(
    config: dict[str, Any], paths: dict[str, Path], output: PretrainedConfig
) -> tuple[list[ExecuteMergeMethodTask], ModelArchitecture]:
    """Run mergekit's planner on the models in `paths`; return one task per output tensor, and the architecture."""
    merge, options = MergeConfiguration.model_validate(with_paths(config, paths)), MergeOptions()
    architecture = get_architecture_info(merge, options)
    planned = MergePlanner(merge, architecture, options, output).plan_to_disk(
        ""
    )  # the plan is not executed: nothing is written
    return [task.tensor_task for task in planned if isinstance(task, SaveTensor)], architecture


def _source(directory: Path, base: Path) -> Source:
    rung = read_rung(directory)
    if rung.head != "language_model":
        raise UserError(
            f"{directory}: expected a language model, got a {rung.head} model; only language models can be merged"
        )
    if rung.kind == "adapter":
        check_base(directory, rung, base)
    whole = base if rung.kind == "adapter" else directory
    check_files(whole)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(whole.glob("*.safetensors")):
        shapes |= tensor_shapes(path)
    config = read_config(whole)
    if rung.kind == "adapter" and (apart := untied(directory, config)):
        config, head, embedding = apart
        shapes[f"{head}.weight"] = shapes[f"{embedding}.weight"]
    return Source(directory, rung, config, shapes)


def _check_same_config(first: Source, second: Source, *, layers: bool) -> None:
    one, two = first.config.to_dict(), second.config.to_dict()
    for key in sorted({*one, *two} - NOT_COMPARED - (set() if layers else {"num_hidden_layers"})):
        if one.get(key) != two.get(key):
            raise UserError(
                f"{first.rung.rung} and {second.rung.rung}: their weights do not fit together: {key} of config.json is "
                f"{one.get(key)!r} in the first and {two.get(key)!r} in the second"
            )


def _check_layers(config: dict[str, Any], sources: dict[str, Source]) -> None:
    for n, part in enumerate(config.get("slices") or []):
        for m, source in enumerate(part["sources"]):
            start, end = source["layer_range"]
            layers = sources[source["model"]].config.num_hidden_layers
            if not 0 <= start < end <= layers:
                raise UserError(
                    f"merge config: slices.{n}.sources.{m}.layer_range: expected [first, last + 1] within layers 0 to "
                    f"{layers - 1} of {source['model']}, got [{start}, {end}]"
                )


def _output_config(config: dict[str, Any], sources: dict[str, Source]) -> PretrainedConfig:
    """Configuration of the merged model: that of `base_model` or else the first model, with the slices' layers."""
    start = sources[config["base_model"]] if config.get("base_model") else next(iter(sources.values()))
    changed: dict[str, Any] = {"dtype": config.get("out_dtype") or config.get("dtype") or str(start.config.dtype)}
    changed["dtype"] = changed["dtype"].removeprefix("torch.")
    changed["tie_word_embeddings"] = all(source.config.tie_word_embeddings for source in sources.values())
    taken = [part["sources"][0] for part in config.get("slices") or []]
    if taken:
        changed["num_hidden_layers"] = sum(end - start for start, end in (source["layer_range"] for source in taken))
    for key in PER_LAYER if taken else ():
        if getattr(start.config, key, None) is not None:
            parts = (getattr(sources[one["model"]].config, key)[slice(*one["layer_range"])] for one in taken)
            changed[key] = [item for part in parts for item in part]
    return type(start.config).from_dict({**start.config.to_dict(), **changed})


def _check_tensors(
    tasks: list[ExecuteMergeMethodTask],
    sources: dict[str, Source],
    called: dict[str, str],
    architecture: ModelArchitecture,
) -> None:
    """Check that each input tensor exists with the same shape in all models, and that mergekit would drop no tensor."""
    if get_checkpoint_conversion_mapping(next(iter(sources.values())).config.model_type):
        return  # mergekit renames the tensors of these checkpoints (mixtures of experts) when it reads them
    for task in tasks:
        shapes = {}
        for model, weight in task.gather_tensors.weight_info.items():
            source = sources[called[model.model.path]]
            spellings = [weight.name, *(weight.aliases or ()), *(weight.tied_names or ())]
            stored = [source.shapes[name] for name in spellings if name in source.shapes]
            if not stored:
                raise UserError(f"{source.directory}: no tensor {weight.name}, which the merge needs")
            shapes[source.rung.rung] = stored[0]
        if len(set(shapes.values())) > 1:
            shown = ", ".join(f"{list(shape)} in {name}" for name, shape in shapes.items())
            raise UserError(f"{task.output_weight.name}: expected one shape in all models, got {shown}")
    for source in sources.values():
        known = architecture.all_weights(source.config)
        spelled = {name for each in known for name in (each.name, *(each.aliases or ()), *(each.tied_names or ()))}
        dropped = sorted(set(source.shapes) - spelled)
        if dropped:
            raise UserError(f"{source.directory}: mergekit does not know the tensor {dropped[0]} and would drop it")


def _weights(task: ExecuteMergeMethodTask, called: dict[str, str], method: str) -> dict[str, float]:
    """Weights of one tensor by model. Errors: UserError for a density outside [0, 1], or weights that sum to 0."""
    weights = {}
    for model, parameters in task.input_parameters.items():
        density = dict(parameters.items()).get("density", 1.0)
        if not 0 <= density <= 1:
            raise UserError(f"merge config: density: expected the share of weights to keep, from 0 to 1, got {density}")
        if "weight" in dict(parameters.items()):
            weights[called[model.model.path]] = parameters["weight"]
    if method == "linear" and task.parameters["normalize"] and sum(weights.values()) == 0:
        raise UserError(
            "merge config: linear divides by the sum of the weights, which is 0. Set parameters: {normalize: false}."
        )
    return weights
