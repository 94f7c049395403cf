"""Settings of the model that is served, and of the one that comes next."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class BundleSettings(BaseSettings):
    """Which bundles a worker loads."""

    bundle: Path | None = Field(
        None,
        description="Folder of the model bundle. Set it to use a model of your own; if unset, the one in the package is used.",
    )
    next_bundle: Path | None = Field(
        None,
        description="Folder of the model bundle that is prepared while BUNDLE is served: bags keep the embeddings of both. "
        "Set it for a rollout, and after one to the bundle before, so that a rollback is possible.",
    )
    rollout_share: float = Field(
        0.99,
        ge=0,
        le=1,
        description="Least share of the items in the bags, 0 to 1, that must have a code of NEXT_BUNDLE before `tastestream rollout "
        "promote` permits to serve it. Lower it if many pictures are gone and no adapter stands in for them.",
    )
    bundle_key: Path | None = Field(
        None,
        description="Path of the Ed25519 public key (PEM) that must have signed each bundle; workers refuse every other bundle, "
        "the one in the package included. Needs the extra `sign`. Set it if others can write to the bundle's folder.",
    )
    model_threads: int = Field(
        1,
        ge=1,
        description="Number of threads of ONNX Runtime for one batch. Raise it if a worker has several cores to itself.",
    )
