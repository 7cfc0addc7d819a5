"""What can hardly be meant: refused with the reason, unless the user says that it is meant. No torch."""

from ssbench.errors import UserError
from ssbench.spec import DataSettings


def suspect(settings: DataSettings, name: str, text: str) -> None:
    """Raises UserError with `text`, which says what was found and what to do, unless `data.allow` has its `name`."""
    if name not in settings.allow:
        raise UserError(f"{text}; if it is meant: --set data.allow={','.join((*settings.allow, name))}")
