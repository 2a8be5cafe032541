"""Markdown page of claims: each with its paired difference, and the measures of all rungs."""

from typing import Any

from ladder.data.markdown import Markdown, table
from ladder.eval.measures import CHANCE, REWARD, parsed

CLAIMS = [
    "rung", "baseline", "measure", "value [95% CI]", "baseline's value", "difference [95% CI]", "p", "n", "verdict",
    "claim",
]  # fmt: skip
RUNGS = ["rung", "method", "parent", "trainable"]
NOTE = (
    "In brackets are 95% bootstrap confidence intervals (CI) over n prompts; all answers to a prompt are one cluster. "
    "A difference is of the same rows, prompt by prompt. *improved* and *regressed* require an interval that excludes "
    "0 and p < 0.05 in a paired test, which swaps the two results of a prompt at random (McNemar's for one answer per "
    "prompt). p is not corrected for the number of claims: of twenty comparisons of equals, one may differ by chance. "
    "A claim that a rung is not worse holds unless it regressed; the lower end of the interval is what it may have "
    "lost. A reward model's accuracy is of its pairs alone, with Wilson's interval and no test. The intervals do not "
    "cover the variance of training with another seed."
)


SEEDS = (
    "In brackets are 95% confidence intervals (CI) over n prompts; all answers to a prompt are one cluster. Values "
    "with a range in parentheses are means over several seeds, from the lowest to the highest. Each seed has its own "
    "training problems, samples and training. It is compared with the baseline of the same seed, on the same held-out "
    "prompts. Intervals and p of these claims cover the variance of seeds and prompts: a two-way random-effects model "
    "(Searle, Casella and McCulloch 1992, section 4.3) with Student's t and Satterthwaite's degrees of freedom. "
    "p (Holm) is corrected for the number of claims. *improved* and *regressed* require an interval that excludes 0, "
    "p (Holm) < 0.05, and the same sign on every seed. A claim holds if this is so and the difference of each seed has "
    "the claimed direction. A claim that a rung is not worse holds unless it regressed over all seeds, or on one seed "
    "in the paired test of its prompts; its verdict uses p, because a correction would make it easier to hold."
)


def claims_page(claims: list[dict[str, Any]], rungs: dict[str, dict[str, Any]]) -> str:
    """Build the page: the claims, the rungs and a description of the measures."""
    if not claims:
        return "# What each rung learned\n\nNo claims: `claims.claims` in params.yaml is empty.\n"
    names = list(dict.fromkeys(claim["measure"] for claim in claims))
    holding = sum(claim["holds"] for claim in claims)
    seeds = any("by_seed" in claim for claim in claims)
    columns = [*CLAIMS[:7], "p (Holm)", "lowest to highest seed", *CLAIMS[7:]] if seeds else CLAIMS
    return (
        f"# What each rung learned\n\n{holding} of {len(claims)} claims hold. With few prompts, only large differences "
        "are significant.\n\n"
        + table(columns, [claim_cells(claim, seeds=seeds) for claim in claims])
        + f"\n\n{SEEDS if seeds else NOTE}\n\n## The rungs\n\n"
        + table([*RUNGS, *names], [rung_cells(rung, line, names) for rung, line in rungs.items()])
        + "\n\nSeconds, memory and tokens per second of each rung are in metrics/<rung>.json.\n\n## The measures\n\n"
        + "".join(f"- `{name}`: {described(name)}\n" for name in names)
    )


def claim_cells(claim: dict[str, Any], *, seeds: bool = False) -> list[str]:
    """Format a claim's row of the table; with `seeds`, it has the columns of a table over several seeds."""
    digits = _digits(claim["measure"])
    baseline = "50.0" if claim["against"] == CHANCE else _bounds(claim["against_value"], digits)
    difference = f"{claim['difference']:+.{digits}f} [{claim['low']:.{digits}f}, {claim['high']:.{digits}f}]"
    p = _p(claim["p"])
    every = f" ({claim['seeds_held']} of {len(claim['by_seed'])} seeds)" if "by_seed" in claim else ""
    holds = f"holds{every}" if claim["holds"] else Markdown(f"**does not hold**{every}")
    more = [_p(claim.get("p_holm")), _range(claim["by_seed"], digits, "+") if every else ""] if seeds else []
    value, n = _bounds(claim["value"], digits), claim["n"] or ""
    return [
        claim["rung"], claim["against"], claim["measure"], value, baseline, difference, p, *more, str(n),
        claim["verdict"], holds,
    ]  # fmt: skip


def rung_cells(rung: str, line: dict[str, Any], names: list[str]) -> list[str]:
    """Format a rung's row of the table."""
    learned, all_of_it = line.get("trainable_parameters"), line.get("parameters")
    trainable = f"{learned / 1e6:.3g} M ({100 * learned / all_of_it:.3g}%)" if learned and all_of_it else ""
    measured, seeds = line["measures"], line.get("by_seed", {})
    values = [_bounds(measured[name], _digits(name)) if name in measured else "" for name in names]
    ranges = [f" ({_range(seeds[name], _digits(name))})" if name in seeds else "" for name in names]
    values = [f"{value}{ends}" for value, ends in zip(values, ranges, strict=True)]
    return [rung, line.get("method", ""), line.get("parent", ""), trainable, *values]


def described(name: str) -> str:
    """Describe a measure: title, unit and direction."""
    if name == REWARD:
        return "held-out pairs whose chosen answer the reward model scores higher, % (Wilson's interval); chance is 50"
    _, measure = parsed(name)
    return f"{measure.title}, {measure.unit}; better {measure.better}"


def _digits(name: str) -> int:
    return 1 if name == REWARD or parsed(name)[1].share else 3


def _bounds(ends: list[float], digits: int) -> str:
    return "{:.{n}f} [{:.{n}f}, {:.{n}f}]".format(*ends, n=digits)


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _range(by_seed: list[float], digits: int, sign: str = "") -> str:
    return " to ".join(f"{end:{sign}.{digits}f}" for end in (min(by_seed), max(by_seed)))
