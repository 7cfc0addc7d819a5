"""What can hardly be meant: refused with the reason, unless the user says that it is meant. No torch."""

from ssbench.errors import UserError
from ssbench.spec import DataSettings


class Suspicion(UserError):
    """What a user may mean all the same, by its `name` in `data.allow`."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def suspect(settings: DataSettings, name: str, text: str) -> None:
    """Raises Suspicion with `text`, which says what was found and what to do, unless `data.allow` has its `name`."""
    if name not in settings.allow:
        allowed = ",".join((*settings.allow, name))
        raise Suspicion(f"{text}; if it is meant: --set data.allow={allowed}", name)
