"""How warm it will be tomorrow and whether it will rain: Seattle's weather, day by day, 2012-2015.

The file `seattle-weather.csv` of the package vega_datasets holds the observations of NOAA's National Climatic Data
Center: 1461 days with precipitation (mm), highest and lowest temperature (°C) and wind (m/s). Split by time: a network
learns from the days of 2012 and 2013, is validated on those of 2014 and tested on those of 2015. A day is predicted
from the 30 days before it, whichever year these are in, since they are known by then.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import numpy as np

from ...fast.numerics import Array
from ..task import Outputs, Part, Split, Task
from .baselines import best, frequencies, least_squares, logistic, package_rows

WINDOW = 30  # days
SMOOTHING = 15.0  # days, the standard deviation of the kernel that averages over the year
YEAR = 365.25


class Days(NamedTuple):
    """The observations."""

    year: Array  # (n,)
    phase: Array  # (n,) days since the beginning of the year
    temperature: Array  # (n,) the day's highest, °C
    rain: Array  # (n,) whether there was any
    features: Array  # (n, 6)


def load() -> Task:
    """Read the file and make the task, or say what is missing."""
    days = read()
    learnt = days.year <= 2013
    mean, deviation = days.temperature[learnt].mean(), days.temperature[learnt].std()
    x = (days.features - days.features[learnt].mean(axis=0)) / days.features[learnt].std(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=0).swapaxes(1, 2)[:-1]  # of the days before …
    year = days.year[WINDOW:]  # … this one
    temperature, rain = ((days.temperature - mean) / deviation)[WINDOW:, None], days.rain[WINDOW:].astype(np.intp)

    def split(which: Array) -> Split:
        return Split(windows[which], None, (temperature[which], rain[which]))

    return Task(
        "weather",
        "tomorrow's highest temperature in Seattle, and whether it will rain, from the 30 days before",
        "vega_datasets, seattle-weather.csv: NOAA's observations of 2012-2015",
        split(year <= 2013),
        split(year == 2014),
        split(year == 2015),
        "last",
        (
            Part("temperature", "numbers", 1, float(deviation), float(mean), "°C"),
            Part("rain", "classes", 2, labels=("dry", "rain")),
        ),
        0,
        lambda task: baselines(task, days),
    )


def read() -> Days:
    """Read the file."""
    rows = package_rows("vega_datasets", "_data", "seattle-weather.csv")
    dates = [date(*map(int, row["date"].split("/"))) for row in rows]
    high, low, rain, wind = (
        np.array([float(row[name]) for row in rows]) for name in ("temp_max", "temp_min", "precipitation", "wind")
    )
    phase = np.array([d.timetuple().tm_yday - 1 for d in dates], float)
    angle = 2 * np.pi * phase / YEAR
    features = np.column_stack([high, low, np.log1p(rain), wind, np.sin(angle), np.cos(angle)])
    return Days(np.array([d.year for d in dates]), phase, high, rain > 0, features)


def baselines(task: Task, days: Days) -> dict[str, Outputs]:
    """Persistence, climatology and linear (for rain: logistic) autoregression on the same windows."""
    temperature = task.parts[0]
    first = len(days.year) - len(task.test.x)
    before = slice(first - 1, -1)  # the day before each day of the test

    def standard(degrees: Array) -> Array:
        return ((degrees - temperature.offset) / temperature.scale)[:, None]

    learnt = np.flatnonzero(days.year <= 2013)
    after = frequencies(days.rain[learnt[:-1]].tolist(), days.rain[learnt[1:]].astype(np.intp), 2)
    persistence = [
        standard(days.temperature[before]),
        np.array([after[rain] for rain in days.rain[before].tolist()]),
    ]

    distance = np.abs(days.phase[first:, None] - days.phase[learnt])
    kernel = np.exp(-0.5 * (np.minimum(distance, YEAR - distance) / SMOOTHING) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    rainy = kernel @ days.rain[learnt]
    climatology = [standard(kernel @ days.temperature[learnt]), np.log(np.column_stack([1 - rainy, rainy]))]

    x, vx, tx = (s.x.reshape(len(s.x), -1) for s in (task.train, task.validation, task.test))
    (y, k), (vy, vk) = task.train.target, task.validation.target
    linear = [best(least_squares, (x, y), (vx, vy))(tx), best(logistic, (x, k), (vx, vk))(tx)]
    return {"persistence": persistence, "climatology": climatology, "linear autoregression": linear}
