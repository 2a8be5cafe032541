"""Continuous batching: a batch is a set of slots, and a slot whose answer has ended takes the next prompt.

Yu et al., "Orca", OSDI 2022. When no prompt is left, the remaining rows are compacted, so the tail does not run a full
batch. The model's own modules run unchanged; only the cache and the attention function are replaced, through
transformers' extension points (ladder/inference/kv_cache.py).
"""

import sys
import time
from collections import deque
from collections.abc import Collection
from typing import Any

import torch
from transformers import DynamicCache

from ladder.data.jsonl import Row
from ladder.inference.kv_cache import SlotCache
from ladder.inference.sampling import choose, scramble
from ladder.inference.snapshot import Snapshot, State, flat, ragged
from ladder.inference.types import Sampling


class Decoder:
    """One run of `decode`: the assignment of prompts to slots, and each slot's state on the device."""

    def __init__(
        self, model: Any, prompts: list[list[int]], sampling: Sampling, stop: Collection[int], first: int
    ) -> None:
        self.model, self.prompts, self.sampling, self.stop = model, prompts, sampling, frozenset(stop)
        self.first = first
        # In training, accelerate wraps forward and would cast its outputs; the cache needs the model's own dtype.
        self.forward = getattr(model, "_original_forward", model)
        self.device, self.cuda = model.device, model.device.type == "cuda"
        # Reading tokens synchronizes with the GPU, so rows are checked every 8 steps and may run up to 7 too many.
        self.burst, self.bucket, self.prefill_tokens = (8, 256, 16384) if self.cuda else (1, 64, 2048)
        self.prefill_steps = 4.0 if self.cuda else 0.5  # fixed cost of a prefill, in decoding steps
        positions = model.config.max_position_embeddings
        # The last token of an answer is not fed back, so it needs no position.
        self.limits = [min(sampling.max_new_tokens, positions + 1 - len(prompt)) for prompt in prompts]
        longest = max(len(prompt) + limit for prompt, limit in zip(prompts, self.limits, strict=True))
        self.longest = self.round_up(longest + self.burst)
        self.answers: list[list[int]] = [[] for _ in prompts]

    def round_up(self, length: int) -> int:
        """Round up to a multiple of the bucket size."""
        return -(-length // self.bucket) * self.bucket

    def slots_that_fit(self) -> int:
        """Number of slots of the longest answer that fit in free memory, capped where more slots gain no speed."""
        config = self.model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * self.model.dtype.itemsize
        slot_bytes = token_bytes * self.longest
        if not self.cuda:
            return max(1, min(128, len(self.prompts), 4 * 2**30 // slot_bytes))
        free = torch.cuda.mem_get_info(self.device)[0]
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = int(0.8 * free)
        wide = 8 * config.hidden_size + 3 * config.intermediate_size  # activations of a prefill per token and layer
        free -= min(free // 2, self.prefill_tokens * (token_bytes + wide * self.model.dtype.itemsize))
        choice_bytes = 48 * config.vocab_size  # logits, float32 copy, weights, their ranks and sums
        return max(1, min(2048, len(self.prompts), free // (slot_bytes + choice_bytes)))

    def run(self, slots: int, bar: Any, snapshot: Snapshot | None) -> None:
        """Complete all answers. Errors: torch.OutOfMemoryError; a further call resumes, with fewer slots if given."""
        left = snapshot.read(self.device) if snapshot else None
        if left:
            self.take_up(*left)
            done = sum(map(self.ended, range(len(self.prompts))))
            bar.write(f"resuming: {done} of {len(self.prompts)} answers are complete", file=sys.stderr)
            bar.update(done)
        else:
            self.take(slots)
        self.columns = torch.arange(self.longest, device=self.device)
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}  # by rows and length; they share a memory pool
        self.pool = torch.cuda.graph_pool_handle() if self.cuda else None
        started, made = time.perf_counter(), 0
        try:
            while self.queue or any(index is not None for index in self.occupant):
                self.refill()
                self.close_up()
                ended = 0
                for tokens in self.steps():
                    for slot, token in enumerate(tokens):
                        index = self.occupant[slot]
                        if index is None:
                            continue
                        self.answers[index].append(token)
                        made += 1
                        if self.ended(index):
                            self.occupant[slot] = None
                            ended += 1
                bar.set_postfix_str(f"{made / (time.perf_counter() - started):.0f} tokens/s", refresh=False)
                bar.update(ended)
                if snapshot:
                    snapshot.keep(self.state, sum(cached.nbytes for cached in self.cache.tensors))
        finally:
            del self.graphs, self.pool, self.cache

    def take(self, slots: int) -> None:
        """Allocate the device state of `slots` slots, and queue the prompts whose answers have not ended."""
        left = [index for index in range(len(self.prompts)) if not self.ended(index)]
        self.queue = deque(sorted(left, key=lambda index: -len(self.prompts[index] + self.answers[index])))
        self.slots = self.rows = min(len(left), slots)
        self.occupant: list[int | None] = [None] * self.slots
        self.idle = 0  # row steps run on empty slots since the last prefill
        like = torch.empty(0, dtype=self.model.dtype, device=self.device)
        self.cache = SlotCache(self.model.config, self.slots, self.longest if self.cuda else self.bucket, like)
        self.token = torch.zeros(self.slots, dtype=torch.long, device=self.device)
        self.key = torch.zeros_like(self.token)

    def state(self) -> State:
        """Everything that the next step depends on, except the prompts."""
        facts: Row = {name: getattr(self, name) for name in ("slots", "rows", "idle", "occupant")}
        facts |= {"queue": list(self.queue), "length": self.cache.length}
        cached = {f"cache.{number}": tensor for number, tensor in enumerate(self.cache.tensors)}
        own = {"position": self.cache.position, "token": self.token, "key": self.key}
        return facts, {**cached, **own, **flat(self.answers)}

    def take_up(self, facts: Row, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the device state and the queue that `state` returned."""
        self.slots, self.rows, self.idle = facts["slots"], facts["rows"], facts["idle"]
        self.occupant, self.queue, self.answers = facts["occupant"], deque(facts["queue"]), ragged(tensors)
        like = torch.empty(0, dtype=self.model.dtype, device=self.device)
        self.cache = SlotCache(self.model.config, self.slots, 1, like)
        self.cache.tensors = [tensors[f"cache.{number}"] for number in range(len(self.cache.tensors))]
        self.cache.position, self.cache.length = tensors["position"], facts["length"]
        self.token, self.key = tensors["token"], tensors["key"]

    def ended(self, index: int) -> bool:
        answer = self.answers[index]
        return len(answer) == self.limits[index] or (bool(answer) and answer[-1] in self.stop)

    def refill(self) -> None:
        """Prefill free slots with the next prompts, once their idle row steps have cost as much as a prefill."""
        free = [slot for slot, index in enumerate(self.occupant) if index is None]
        self.idle += self.burst * len(free)
        if not self.queue or (self.idle < self.prefill_steps * self.slots and len(free) < self.slots):
            return
        self.idle = 0
        while free and self.queue:
            head = self.queue[0]  # the longest one
            count = max(1, self.prefill_tokens // len(self.prompts[head] + self.answers[head]))
            chunk, free = free[:count], free[count:]
            self.prefill([(slot, self.queue.popleft()) for slot in chunk[: len(self.queue)]])

    def prefill(self, chunk: list[tuple[int, int]]) -> None:
        """Prefill slots with prompts and earlier answer tokens, except each one's last token.

        The next step feeds the last token like any other. So tokens are chosen in one place, and a prefill needs no
        logits.
        """
        prompts = [self.prompts[index] + self.answers[index] for _, index in chunk]
        width = max(len(prompt) for prompt in prompts) - 1
        slots = torch.tensor([slot for slot, _ in chunk], device=self.device)
        if width:
            if self.cache.capacity < width:
                self.cache.resize(self.round_up(width))
            places: dict[tuple[int, ...], int] = {}  # several answers to a prompt share its states
            copies = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
            ids = [[*prompt[:-1], *[0] * (width + 1 - len(prompt))] for prompt in places]
            read: Any = DynamicCache()
            self.model.base_model(torch.tensor(ids, device=self.device), past_key_values=read, use_cache=True)
            states = (state for layer in read.layers for state in (layer.keys, layer.values))
            for cached, state in zip(self.cache.tensors, states, strict=True):
                cached[slots, :, :width] = state[copies]
        for slot, index in chunk:
            self.occupant[slot] = index
        seed = scramble(self.sampling.seed & 0xFFFFFFFF)
        keys = [scramble(seed ^ (self.first + index)) for _, index in chunk]
        start = [[prompt[-1], len(prompt) - 1, key] for prompt, key in zip(prompts, keys, strict=True)]
        self.token[slots], self.cache.position[slots], self.key[slots] = torch.tensor(start, device=self.device).T

    def close_up(self) -> None:
        """If no prompt is left, move the last live rows into free slots before them, and run fewer rows."""
        live = [slot for slot, index in enumerate(self.occupant) if index is not None]
        if self.queue or not live:
            return
        if self.cuda:  # a graph is captured for each number of rows, so it is only halved
            rows = self.rows
            while (rows + 1) // 2 >= len(live) and rows > 1:
                rows = (rows + 1) // 2
        else:
            rows = min(self.rows, -(-len(live) // 4) * 4)
        sources = [slot for slot in live if slot >= rows]
        holes = [slot for slot in range(rows) if self.occupant[slot] is None][: len(sources)]
        self.rows = rows
        if sources:
            for state in (*self.cache.tensors, self.cache.position, self.token, self.key):
                state[holes] = state[sources]
            for hole, source in zip(holes, sources, strict=True):
                self.occupant[hole], self.occupant[source] = self.occupant[source], None

    def steps(self) -> list[list[int]]:
        """Run a burst of decoding steps; return the new tokens, [steps][rows]."""
        last = max(len(self.prompts[i]) + len(self.answers[i]) for i in self.occupant if i is not None)
        length = self.round_up(last - 1 + self.burst)
        if self.cuda:
            self.cache.length = length
        elif not 0 <= self.cache.capacity - length <= self.bucket:  # resize: matrix products need contiguous tensors
            self.cache.resize(length)
        tokens = []
        for _ in range(self.burst):
            if self.cuda:
                self.replay()
            else:
                self.step()
            tokens.append(self.token[: self.rows].clone())
        return torch.stack(tokens).tolist()

    def step(self) -> None:
        """Feed each row its last token and choose the next one, all on the device."""
        position, token = self.cache.position[: self.rows], self.token[: self.rows]
        position.clamp_(max=self.cache.capacity - 1)  # ended rows keep running, inside their own slot
        seen = self.columns[: self.cache.length] <= position[:, None]
        mask = torch.where(seen, 0.0, -torch.inf)[:, None, None]
        logits = self.forward(
            input_ids=token[:, None],
            position_ids=position[:, None],
            attention_mask=mask.to(self.model.dtype) if self.cuda else mask,
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        token.copy_(choose(logits, scramble(scramble(position) ^ self.key[: self.rows]), self.sampling))
        position.add_(1)

    def replay(self) -> None:
        """Replay one step as a CUDA graph, captured at the first use of its number of rows and length."""
        shape = self.rows, self.cache.length
        if shape not in self.graphs:
            state = self.token.clone(), self.cache.position.clone()
            side = torch.cuda.Stream(self.device)
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):  # warm-up: lazy initialization must happen before the capture
                self.step()
            torch.cuda.current_stream(self.device).wait_stream(side)
            self.token.copy_(state[0])
            self.cache.position.copy_(state[1])
            self.graphs[shape] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[shape], pool=self.pool):
                self.step()
        self.graphs[shape].replay()
