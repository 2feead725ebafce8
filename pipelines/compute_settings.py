"""What a study may write under `compute`: where scoring passes run and how a model is trained."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Compute(BaseModel):
    """Where heavy work runs; by default all of it in the process of the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scoring: Annotated[
        Literal["local", "ray"], Field(description="scoring passes in this process, or on a Ray cluster (extra ray)")
    ] = "local"
    ray_address: Annotated[
        str | None,
        Field(description="of the cluster; RAY_ADDRESS if left out, and `local` starts one on this machine"),
    ] = None
    training: Annotated[
        Literal["in_process", "launch"], Field(description="models trained in this process, or by accelerate launch")
    ] = "in_process"
    processes: Annotated[int, Field(ge=1, le=1024, description="of accelerate launch, one for each GPU")] = 1

    @model_validator(mode="after")
    def _settings_are_used(self) -> "Compute":
        if self.processes > 1 and self.training == "in_process":
            raise ValueError("processes is read with `training: launch` only; in_process trains in one")
        if self.ray_address is not None and self.scoring == "local":
            raise ValueError("ray_address is read with `scoring: ray` only")
        return self
