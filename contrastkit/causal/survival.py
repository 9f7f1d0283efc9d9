"""The times until an event in both arms of a study, under weights that balance them: survival curves, restricted means
and a hazard ratio."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from contrastkit.causal.estimate.censored import KaplanMeier
from contrastkit.causal.followup import follow_up
from contrastkit.causal.inference import Effect
from contrastkit.causal.names import Estimand, SurvivalWeighting
from contrastkit.causal.remarks import on_sample, on_weights
from contrastkit.causal.study import Study
from contrastkit.causal.weighted_survival import Arm, HazardRatio, WeightedArms
from contrastkit.causal.weights import StudyWeights, weigh
from contrastkit.errors import check_choice


@dataclass(frozen=True, eq=False)
class SurvivalEffects:
    """Both arms, and their differences, treated less untreated.

    Attributes:
        time, event: the columns; column=value where a value says what counts as an event.
        weighted: the weights, and the balance under them.
        horizon: of the restricted means.
        arms: first the treated. curves: likewise. differences: in survival, at each time asked for.
        remarks: what a reader should know.
    """

    treatment: str
    time: str
    event: str
    weighted: StudyWeights
    horizon: float
    arms: tuple[Arm, Arm]
    curves: tuple[KaplanMeier, KaplanMeier]
    differences: tuple[tuple[float, Effect], ...]
    restricted_mean_difference: Effect
    hazard_ratio: HazardRatio
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        arms = [{name: value for name, value in asdict(arm).items() if name != "curve"} for arm in self.arms]
        return {
            "treatment": self.treatment,
            "time": self.time,
            "event": self.event,
            "by": self.weighted.by,
            "estimand": self.weighted.target,
            "smd_before": self.weighted.balance.worst_before,
            "smd": self.weighted.balance.worst,
            "horizon": self.horizon,
            "arms": arms,
            "differences": [{"time": time} | asdict(effect) for time, effect in self.differences],
            "restricted_mean_difference": asdict(self.restricted_mean_difference),
            "hazard_ratio": asdict(self.hazard_ratio),
            "remarks": list(self.remarks),
        }


def compare_survival(
    study: Study,
    by: SurvivalWeighting | None = None,
    *,
    event_value: str | None = None,
    weights: Path | None = None,
    estimand: Estimand = "ATT",
    trim: float | str = 0.0,
    propensity_model: str = "logistic",
    sample_weight: str | None = None,
    at: Sequence[float] = (),
    horizon: float | None = None,
    cluster: str | None = None,
) -> SurvivalEffects:
    """Compare the times until an event in both arms of a study, if censoring does not depend on them within an arm.

    Standard errors know that weights were estimated: the influences of units on curves, restricted means and the log
    hazard ratio (:mod:`contrastkit.causal.estimate.censored`) are stacked with the equations of the weights, as those
    of means are. Intervals are Student's.

    Args:
        study: its outcome is the event, and ``time`` the column of the times until it or the end of follow-up.
        event_value: the value of the event's column that counts as one; None for 0 and 1.
        by, weights, estimand, trim, propensity_model, sample_weight: of :func:`contrastkit.causal.weights.weigh`.
        at: times at which survival is compared; by default half of the horizon, and the horizon.
        horizon: that of the restricted means; by default the shorter of both arms' follow-up.
        cluster: column of labels of units that may depend on one another.

    Raises:
        UserError: there are no times or events that can be used, or none in an arm, a time beyond the follow-up of an
            arm, or no weights.
    """
    if by is not None:
        check_choice("method", by, get_args(SurvivalWeighting))
    times, events, event = follow_up(study, event_value)
    groups = None if cluster is None else study.clusters(cluster)
    weighted = weigh(
        study, by, weights=weights, estimand=estimand, trim=trim, propensity_model=propensity_model,
        sample_weight=sample_weight,
    )  # fmt: skip
    arms = WeightedArms.of(study.T, times, events, weighted, groups)
    end = arms.horizon(horizon)
    asked = arms.within(at or (end / 2, end))
    found = [arms.arm(name, end, asked) for name in arms.members]
    remarks = (
        *on_sample(study.X, arms.members, times, groups),
        *on_weights(arms.judge.w, arms.members),
        *arms.remarks(found),
        *([weighted.remark] if weighted.remark else []),
    )
    return SurvivalEffects(
        treatment=study.treatment_label, time=str(study.time), event=event, weighted=weighted, horizon=end,
        arms=(found[0], found[1]), curves=(arms.curves["treated"], arms.curves["untreated"]),
        differences=tuple(arms.differences(asked)),
        restricted_mean_difference=arms.restricted(end), hazard_ratio=arms.hazards(study.T, times, events),
        remarks=remarks,
    )  # fmt: skip
