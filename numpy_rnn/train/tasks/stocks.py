"""Next month's return of five stocks, from monthly prices of 2000-2010.

The file `stocks.csv` of the package vega_datasets holds the prices of MSFT, AMZN, IBM, GOOG (from August 2004 on) and
AAPL at the beginning of every month. One network reads the last 12 monthly log returns of a stock, the mean return of
all of them and which one it is, and predicts the next. Split by time: it learns from the returns of 2001-2006, is
validated on those of 2007 and tested on those from 2008 on, a crash and a recovery. Nobody should expect it to beat a
prediction of 0 ("the price stays as it is"): if it could, the prices would have moved already.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from ...fast.numerics import Array
from ..task import Outputs, Part, Split, Task
from .baselines import best, least_squares, package_rows

WINDOW = 12  # months


def load() -> Task:
    """Read the file and make the task, or say what is missing."""
    names, months, returns = read()
    learnt = returns[months <= 200612]
    deviation = float(np.nanstd(learnt))
    market = np.nanmean(returns, axis=1)
    x, y, when = [], [], []
    for k in range(len(names)):
        which = np.tile(np.eye(len(names))[k], (WINDOW, 1))
        for t in range(WINDOW, len(months)):
            own = returns[t - WINDOW : t + 1, k]
            if np.isfinite(own).all():
                x.append(np.column_stack([own[:-1] / deviation, market[t - WINDOW : t] / deviation, which]))
                y.append([own[-1] / deviation])
                when.append(months[t])
    features, target, year = np.array(x), np.array(y), np.array(when) // 100

    def split(which: Array) -> Split:
        return Split(features[which], None, (target[which],))

    return Task(
        "stocks",
        "next month's log return of five stocks, from the 12 months before",
        "vega_datasets, stocks.csv: monthly prices of MSFT, AMZN, IBM, GOOG and AAPL, 2000-2010",
        split(year <= 2006),
        split(year == 2007),
        split(year >= 2008),
        "last",
        (Part("return", "numbers", 1, 100 * deviation, 0.0, "%"),),
        0,
        baselines,
    )


def read() -> tuple[list[str], Array, Array]:
    """Read names, months and log returns (n, 5), NaN where there is no price.

    Month 200802 has the return from January to February 2008.
    """
    rows = package_rows("vega_datasets", "_data", "stocks.csv")
    names = list(dict.fromkeys(row["symbol"] for row in rows))
    dates = [datetime.strptime(row["date"], "%b %d %Y") for row in rows]
    months = np.array([100 * d.year + d.month for d in dates])
    all_months = np.unique(months)
    prices = np.full((len(all_months), len(names)), np.nan)
    for month, row in zip(np.searchsorted(all_months, months), rows):
        prices[month, names.index(row["symbol"])] = float(row["price"])
    return names, all_months[1:], np.diff(np.log(prices), axis=0)


def baselines(task: Task) -> dict[str, Outputs]:
    """No change, each stock's mean return while learning, and linear autoregression on the same windows."""
    x, vx, tx = (_flat(s.x) for s in (task.train, task.validation, task.test))
    y, vy = task.train.target[0], task.validation.target[0]
    known, asked = (s.x[:, 0, 2:] for s in (task.train, task.test))  # which stock, one-hot
    means = (known.T @ y) / known.sum(axis=0)[:, None]
    return {
        "no change": [np.zeros((len(tx), 1))],
        "mean return": [asked @ means],
        "linear autoregression": [best(least_squares, (x, y), (vx, vy))(tx)],
    }


def _flat(x: Array) -> Array:
    """All returns of the window, and once which stock it is."""
    return np.column_stack([x[:, :, :2].reshape(len(x), -1), x[:, 0, 2:]])
