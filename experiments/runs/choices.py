"""Which state of a run was evaluated, by which rule, and whether that is its end."""

from __future__ import annotations

from experiments.runs import reading
from experiments.runs.reading import Run
from tron_jax.evaluation.metrics import BEST_KEY, title

BEST = f"best, the highest {title(BEST_KEY)}"
LATEST = "latest"
NOT_KNOWN = "by a rule that was not written down"


def rule_of(run: Run, protocol: str) -> str:
    """The rule in words; an older evaluation does not say it, but its step may."""
    line = run.evaluations[protocol]
    if not run.finished:
        return "latest, while the run trains"
    if "chosen_by" in line:
        return str(line["chosen_by"])
    best, split = best_of(run)
    of_best = rule_of_best(run)
    of_latest = LATEST if run.log and line["step"] == run.log[-1]["step"] else ""
    by_best = of_best if line["step"] == best else ""
    first, second = by_best, of_latest
    if protocol == "exact" and split != "validation":
        first, second = of_latest, by_best
    return first or second or NOT_KNOWN


def best_of(run: Run) -> tuple[int | None, str]:
    """The step of the best checkpoint, by the log, and the split that it is best on."""
    scores, split = _scores(run)
    return _best(scores), split


def rule_of_best(run: Run) -> str:
    """The rule that chooses the best checkpoint, in words."""
    return f"{BEST} on {best_of(run)[1]}"


def state(run: Run) -> tuple[str | int, ...]:
    """What the states that ``exact`` was taken at share where they may be averaged.

    Runs that stopped early end at steps of their own, and so do the best ones; whatever
    is not the end of a run, by one of these rules, must be of the same step.
    """
    rule, why = rule_of(run, "exact"), unsettled(run)
    known = reading.steps_per_epoch(run) is not None
    if not why and known and _is_by(rule, "latest", "best"):
        return (rule,)
    return rule, why, int(run.evaluations["exact"]["step"])


def unsettled(run: Run) -> str:
    """Why ``exact`` is not of the run that its config describes; "" where it is.

    What is evaluated at a step that was asked for is what was asked for, unless it lies
    behind the config's last epoch.
    """
    epochs, per_epoch = run.fields["train.epochs"], reading.steps_per_epoch(run)
    step = run.evaluations["exact"]["step"]
    if not run.finished:
        epoch = run.evaluations["exact"].get("epoch", 0)
        if epoch >= epochs:
            return "trained, but not evaluated yet"
        return f"not finished: {epoch:g} of {epochs:g} epochs"
    if per_epoch is None:
        return ""
    if step > epochs * per_epoch + 0.5:
        return f"trained for {step / per_epoch:.4g} epochs, its config says {epochs:g}"
    rule, latest = rule_of(run, "exact"), _latest(run)
    if not _is_by(rule, "latest", "best", NOT_KNOWN):
        return ""
    if (chosen_now := _chosen_now(run, rule, latest)) != step:
        return f"evaluated at step {step:,}, not yet at step {chosen_now:,}"
    if latest < epochs * per_epoch - 0.5 and not _stopped(run, latest):
        return f"not finished: {latest / per_epoch:.4g} of {epochs:g} epochs"
    return ""


def unconverged(run: Run) -> str:
    """Why its score may have risen further, where it was to train until it did not.

    Returns:
      A few words; "" of a run that stopped by itself, and of one that was to train for
      so many epochs and no more.
    """
    per_epoch = reading.steps_per_epoch(run)
    if not run.fields.get("train.stop_after") or per_epoch is None or unsettled(run):
        return ""
    latest = _latest(run)
    if _stopped(run, latest):
        return ""
    return f"not converged after {latest / per_epoch:.4g} epochs"


def _is_by(rule: str, *names: str) -> bool:
    return rule.startswith(names)


def _latest(run: Run) -> int:
    """The step of the latest state, by its checkpoints, or else by the log."""
    step = int(run.evaluations["exact"]["step"])
    # A kill may leave a log that is ahead of the checkpoints.
    if run.newest is not None and run.newest >= step:
        return run.newest
    return max([step, *(x["step"] for x in run.log if "protocol" in x)])


def _chosen_now(run: Run, rule: str, latest: int) -> int:
    """The step that the rule would choose now, of equals the one evaluated."""
    scores, split = _scores(run, latest)
    by_best = _is_by(rule, "best") or (rule == NOT_KNOWN and split == "validation")
    if not by_best or not scores:
        return latest
    step, best = int(run.evaluations["exact"]["step"]), _best(scores)
    return step if best is None or scores.get(step) == scores[best] else best


def _stopped(run: Run, latest: int) -> bool:
    """Whether a run stopped early, as its config allows it."""
    scores, patience = _scores(run, latest)[0], run.fields.get("train.stop_after", 0)
    best = _best(scores)
    if best is None or not patience:
        return False
    return sum(step > best for step in scores) >= patience


def _scores(run: Run, latest: float = float("inf")) -> tuple[dict[int, float], str]:
    """By step what ``best`` goes by, up to a step, and the split that it is of."""
    lines = [line for line in run.log if BEST_KEY in line]
    validated = any(line.get("split") == "validation" for line in lines)
    split = "validation" if validated else "test"
    scores: dict[int, float] = {}
    for line in lines:  # paper stands first; exact where that is n/a
        if line.get("split") == split and line["step"] <= latest:
            scores.setdefault(line["step"], line[BEST_KEY])
    return scores, split


def _best(scores: dict[int, float]) -> int | None:
    """The step of the highest score, the first of equals."""
    return max(scores, key=lambda step: scores[step], default=None)
