"""The asset `yardstick`: the proxy's quality, and that of a simple model on the same encoded samples."""

from typing import Any

import dagster as dg

from secateur.pipelines.assets.asset import study_asset
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.proxy import folds_in
from secateur.pipelines.runs.yardstick import proxy_facts, simple_model
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study


def yardstick_asset(study: Study) -> dg.AssetsDefinition:
    """Every metric of the proxy on training and test samples, and of a simple model on test samples."""

    @study_asset(
        study,
        "yardstick",
        ins=("inputs", "samples", "test_inputs", "test_samples", "source", *(["proxy"] if study.proxy else [])),
        description="The proxy's metric on its training samples and on the test samples, and that of a linear model, "
        "or of boosted trees on a table, on the same encoded samples. No score and no selection follows from it.",
        accelerated=True,
    )
    def yardstick(
        secateur_store: dg.ResourceParam[Store],
        inputs: Any,
        samples: Any,
        test_inputs: Any,
        test_samples: Any,
        source: Any,
        **loaded: Any,
    ) -> dg.MaterializeResult:
        data, test = data_of(inputs, samples, source), data_of(test_inputs, test_samples, source, "test")
        folders = [loaded["proxy"] / name for name in study.proxies]
        folds = folds_in(study, secateur_store)
        simple = simple_model(study, source, folders, data, test, secateur_store)
        known: dict[str, Any] = {
            "model": simple,
            "proxy": proxy_facts(folders, data, test, folds),
            "test_samples": len(test),
        }
        measured = {f"proxy: {name}": value for name, value in known["proxy"]["test"].items()}
        measured |= {f"proxy, training: {name}": value for name, value in known["proxy"]["training"].items()}
        measured |= {f"{simple['model']}: {name}": value for name, value in simple.get("metrics", {}).items()}
        return dg.MaterializeResult(value=known, metadata=measured)

    return yardstick
