"""Predict accuracies of architectures by boosted trees: the predictor of GBDT-NAS (Luo et al., arXiv 2007.04785)."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import ConfigDict, Field

from secateur.scorers.architectures.boosted_trees import LEAVES, Leaf, LeafTables, leaves_of
from secateur.scorers.architectures.choice_contributions import PairContributions, mean_where_used, pair_contributions
from secateur.scorers.architectures.encoding import ArchitectureSpace, Choices, Features
from secateur.scorers.architectures.rank_metrics import RankMetrics, out_of_fold, rank_metrics
from secateur.scorers.contract import rows_text
from secateur.scorers.settings import Settings

Accuracies = Float64[np.ndarray, " n"]


class PredictorSettings(Settings):
    """Settings of the boosted trees; the defaults are those of the paper's code, with two exceptions.

    LightGBM's default `min_data_in_leaf` of 20 makes a pool of 50 one leaf, without an error; the default here is a
    tenth of the pool, within 3 … 10. Accuracies are `clipped`: a long tail of poor networks, or failures, would
    dominate the squared error, though a search need not tell them apart. Trees then learn of the poorer half only that
    it is poorer.
    """

    model_config = ConfigDict(frozen=True)

    trees: Annotated[int, Field(ge=1, description="rounds of boosting")] = 100
    leaves: Annotated[int, Field(ge=2, le=LEAVES, description="most leaves of a tree")] = 31
    learning_rate: Annotated[float, Field(gt=0, description="share of each tree that counts")] = 0.05
    feature_fraction: Annotated[float, Field(gt=0, le=1, description="share of features that a tree may use")] = 0.9
    bagging_fraction: Annotated[float, Field(gt=0, le=1, description="share of the pool that a tree learns from")] = 0.8
    bagging_frequency: Annotated[int, Field(ge=0, description="trees between draws of this share")] = 5
    least_in_leaf: Annotated[int | None, Field(ge=1, description="left out: a tenth of the pool, 3 to 10")] = None
    clipped: Annotated[bool, Field(description="accuracies below the pool's median count as the median")] = True
    failed_below: Annotated[
        float | None, Field(description="accuracies below it are failed trainings, and stay out of the pool")
    ] = None

    def trained_on(self, accuracies: Accuracies) -> Bool[np.ndarray, " n"]:
        """Mask of the evaluations in the pool: failed networks would dominate the squared error."""
        return accuracies >= (-np.inf if self.failed_below is None else self.failed_below)

    def targets(self, accuracies: Accuracies) -> Accuracies:
        """Targets of the trees, from the accuracies of the pool."""
        return np.maximum(accuracies, np.median(accuracies)) if self.clipped else accuracies

    def parameters(self, pool: int, seed: int, threads: int) -> dict[str, Any]:
        """LightGBM's parameters for a pool of this size."""
        return {
            "objective": "regression",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": self.bagging_frequency,
            "min_data_in_leaf": self.least_in_leaf or min(10, max(3, pool // 10)),
            "min_data_in_bin": 1,
            "seed": seed % 2**31,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": threads,
            "verbose": -1,
        }


@dataclass(frozen=True)
class AccuracyPredictor:
    """Boosted trees fitted to evaluated architectures of a space; predictions are in the unit of the accuracies.

    Where settings clip accuracies, those predicted for the poorer half are about the pool's median, or above it.
    """

    space: ArchitectureSpace
    booster: Any
    mean: float
    deviation: float

    @classmethod
    def fit(
        cls,
        space: ArchitectureSpace,
        choices: Choices,
        accuracies: Accuracies,
        settings: PredictorSettings = PredictorSettings(),  # noqa: B008 - frozen
        *,
        seed: int = 0,
        threads: int = 1,
    ) -> "AccuracyPredictor":
        """Fit on the architectures from the failure threshold on.

        The same call gives the same trees, whatever `threads`. Raises ValueError for NaN accuracies (rows are named),
        and for fewer than two architectures that did not fail.
        """
        import lightgbm

        if len(bad := np.flatnonzero(~np.isfinite(accuracies))):
            raise ValueError(f"accuracies are missing or infinite at {rows_text(bad)}: evaluate them or leave them out")
        pool = settings.trained_on(accuracies)
        if pool.sum() < 2:
            raise ValueError(
                f"{pool.sum()} of {len(pool)} architectures reach failed_below = {settings.failed_below}; a predictor "
                "needs two: lower the threshold or evaluate more"
            )
        targets, features = settings.targets(accuracies[pool]), space.encode(choices[pool])
        mean, deviation = float(targets.mean()), float(targets.std()) or 1.0
        data = lightgbm.Dataset(
            features.astype(np.float64),
            (targets - mean) / deviation,
            params={"min_data_in_bin": 1, "verbose": -1, "feature_pre_filter": False},
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="lightgbm")
            booster = lightgbm.train(settings.parameters(int(pool.sum()), seed, threads), data, settings.trees)
        return cls(space, booster, mean, deviation)

    @cached_property
    def trees(self) -> list[list[Leaf]]:
        """Leaves of each tree."""
        return leaves_of(self.booster)

    @cached_property
    def tables(self) -> LeafTables:
        """The trees as tables."""
        return LeafTables.of(self.trees, self.space)

    def predict(self, choices: Choices, *, threads: int = 0) -> Accuracies:
        """Predicted accuracies, float64 `[n]`; `threads` 0 takes every core."""
        return self.tables.sums(choices, threads) * self.deviation + self.mean

    def contributions(self, features: Features) -> Float64[np.ndarray, "n features"]:
        """SHAP values by feature, in the unit of the accuracies (LightGBM's `pred_contrib`, less the expectation)."""
        values = self.booster.predict(features.astype(np.float64), pred_contrib=True, num_threads=1)
        return np.asarray(values[:, :-1], dtype=np.float64) * self.deviation

    def first_order(self, choices: Choices) -> Float64[np.ndarray, " features"]:
        """Mean SHAP value of each choice over the architectures that use it."""
        features = self.space.encode(choices)
        return mean_where_used(self.contributions(features), features)

    def second_order(self, choices: Choices) -> PairContributions:
        """Mean SHAP interaction values of each pair of choices."""
        return pair_contributions(self.trees, self.space.encode(choices), factor=self.deviation)


def cross_validate(
    space: ArchitectureSpace,
    choices: Choices,
    accuracies: Accuracies,
    keys: Int64[np.ndarray, " n"],
    settings: PredictorSettings,
) -> tuple[RankMetrics, Accuracies]:
    """Rank metrics over architectures that the predictor never saw, and their predictions.

    Architectures of equal `keys` are in one fold.
    """

    def fit_predict(train: Int64[np.ndarray, " train"], test: Int64[np.ndarray, " test"]) -> Accuracies:
        fitted = AccuracyPredictor.fit(space, choices[train], accuracies[train], settings)
        return fitted.predict(choices[test], threads=1)

    predicted = out_of_fold(fit_predict, keys)
    return rank_metrics(accuracies, predicted), predicted
