"""The two bundles of a rollout."""

from model.bundle import Bundle
from streams.bundles import load_bundles
from streams.exceptions import StartupError
from streams.settings import Settings


def both(settings: Settings) -> tuple[Bundle, Bundle]:
    """Load `BUNDLE` and `NEXT_BUNDLE`.

    Raises:
        BundleError: one of them cannot be used.
        StartupError: `NEXT_BUNDLE` is not set.
    """
    bundles = load_bundles(settings)
    if bundles.next is None:
        raise StartupError(
            "TASTESTREAM_NEXT_BUNDLE is not set, so there is no rollout: set it to the folder of the bundle to prepare, for the "
            "workers too"
        )
    return bundles.served, bundles.next
