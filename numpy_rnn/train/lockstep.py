"""Two learners that take the same steps, and how far their losses are apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..fast.numerics import Array
from .learner import Learner, Result
from .objective import Batch

# Largest difference of two losses over the first steps of a run. Training amplifies rounding as it amplifies
# everything: with the default settings RNN, LSTM and GRU stay within 2e-15 (float32: 2e-6) for 200 steps, but the
# float64 LSTM is at 8e-7 after 300 and at 6e-3 after 500. So later a difference is shown, but not judged.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
JUDGED_STEPS = 200
# Relative difference of loss and gradient norm, each from the same weights: some hundred times what is measured.
SAME = {"float64": 1e-12, "float32": 1e-4}


class DisagreementError(ArithmeticError):
    """The two learners' losses have drifted apart."""


class Lockstep(Learner):
    """A learner and a second one that follows it; what is reported, validated and saved is the first one's.

    Parameters
    ----------
    first, second : Learner
        Of the same problem, whose dtype says which of the `TOLERANCES` holds in the first `JUDGED_STEPS` steps.
    """

    def __init__(self, first: Learner, second: Learner) -> None:
        super().__init__(first.problem)
        self.first, self.second, self.dtype = first, second, first.problem.dtype
        self.steps = 0
        self.difference = 0.0  # the largest so far

    def step(self, batch: Batch) -> Result:
        """Learn from a batch twice.

        Raises
        ------
        DisagreementError
            If the losses are further apart than the tolerance, and this is one of the first steps.
        """
        result, other = self.first.step(batch), self.second.step(batch)
        difference = abs(result.loss - other.loss)
        self.difference = max(self.difference, difference)
        self.steps += 1
        # A first loss that is not finite is for the loop to report; `not <=` catches NaN in the second alone.
        if self.steps <= JUDGED_STEPS and result.finite and not difference <= TOLERANCES[self.dtype]:
            raise DisagreementError(
                f"the losses are {result.loss!r} and {other.loss!r}, {difference:.1e} apart, beyond "
                f"{TOLERANCES[self.dtype]:.0e}; {self._diagnosis(batch)}"
            )
        return result

    def _diagnosis(self, batch: Batch) -> str:
        """Compare one step from equal weights: that tells a wrong computation from rounding that has grown."""
        self.second.load_state_dict(self.first.state_dict())
        ours, theirs = self.first.step(batch), self.second.step(batch)
        relative = max(abs(a - b) / abs(a) for a, b in zip(ours, theirs))
        if relative <= SAME[self.dtype]:
            return (
                f"from equal weights a step agrees to {relative:.1e}, so this is rounding that training has amplified, "
                f"which a smaller learning rate delays"
            )
        return f"even from equal weights a step differs by {relative:.1e}, so one of them computes something else"

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        """Return the first learner's outputs."""
        return self.first.outputs(batches)

    def state_dict(self) -> dict[str, Array]:
        """Return the first learner's state."""
        return self.first.state_dict()

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Let both go on from there."""
        self.first.load_state_dict(tensors)
        self.second.load_state_dict(tensors)
