"""How far a sweep is and how long it will still take: a bar, or a line for each twentieth where nobody watches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

from mmlib.runs.timing import PILOTS, Forecast, Run

EVERY_SECONDS = 2.0
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress:
    """What is shown of a sweep."""

    def __init__(
        self,
        title: str,
        total: int,
        count: int,
        forecast: Forecast,
        left: Callable[[], Sequence[Run]],
        show: bool = True,
    ) -> None:
        """title: what runs. total, count: runs asked for, and of these the ended. left: gives the others."""
        self.title, self.total, self.count = title, total, count
        self.forecast, self.left, self.first, self.failed = forecast, left, count, 0
        self.started = self.said = time.monotonic()
        self.shown = 20 * count // max(1, total)
        self.show, self.bar = show, None
        if show and count == total:
            print(f"{title}: {total} runs, all done before", flush=True)
        elif show and not headless():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, initial=count, desc=title, unit="run", bar_format=BAR)
            self._postfix()

    def step(self, failed: int) -> None:
        """One more run has ended; the forecast knows it."""
        self.count, self.failed = self.count + 1, failed
        if self.bar is not None:
            self.bar.update()
            if time.monotonic() - self.said > EVERY_SECONDS or self.count == self.total:
                self._postfix()
        elif self.show:
            twentieth = 20 * self.count // self.total
            if twentieth > self.shown or self.count - self.first == PILOTS + self.forecast.jobs:
                self.shown = twentieth
                self._line()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()

    def _postfix(self) -> None:
        """Write the time that is left behind the bar."""
        if self.bar is None:
            return
        self.said = time.monotonic()
        parts = [f"{self.failed} failed"] * (self.failed > 0)
        parts += [f"{self.forecast.left(self.left())} left"] * (self.count < self.total)
        self.bar.set_postfix_str(", ".join(parts))

    def _line(self) -> None:
        ended = self.count >= self.total
        remains = "all ended" if ended else f"{self.forecast.left(self.left())} left"
        print(
            f"{self.title}: {self.count}/{self.total} runs, {self.failed} failed, "
            f"{clock(time.monotonic() - self.started)} passed, {remains}",
            flush=True,
        )


def headless() -> bool:
    """Whether nobody watches: no terminal and no notebook, or so declared."""
    return os.environ.get("MMLIB_HEADLESS") == "1" or not (
        "ipykernel" in sys.modules or sys.stderr.isatty()
    )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds with colons."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
