"""The one mechanism behind every private release: round to a grid, add whole-number noise.

A vector x of D coordinates whose sum changes by at most S (L2) when one protected unit comes or
goes is rounded to multiples of a *step*. Two rounded vectors differ by at most

    S / step * (1 + 2^-10) + sqrt(D)     grid units:

each coordinate is off by at most 1/2 in either vector, and 2^-10 is an allowance for the float32
arithmetic in which gradients are clipped and added. Discrete Gaussian noise of ``noise_multiplier``
times that (Canonne, Kamath, Steinke 2020, theorem 4; 2004.00010) costs no more than a Gaussian of
that multiplier, and leaves no trace of floating point (Mironov 2012). Under secure aggregation
every hospital adds a share, and only the sum holds it all (Kairouz, Liu, Steinke 2021, 2102.06387).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.noise import LARGEST_SIGMA, Integers, NoiseSource, discrete_gaussians

FLOAT_ALLOWANCE = 2.0**-10
SMALLEST_SHARE = 3.0
"""In grid units: sums of discrete Gaussians of at least this are Gaussian for every purpose
(``accounting.integer_noise_excess``)."""
NOISE_REACH = 12.0
"""In standard deviations: noise beyond has a probability below 2^-100."""
_FINENESS = 1024.0
_PART = 1 << 14


@dataclass(frozen=True)
class Grid:
    """Where the values of one release are rounded to.

    step : distance of neighbouring values, in the released quantity's unit
    sensitivity : S, in that unit
    dimension : D
    steps : S / step, where it was what the step was chosen by; else it is divided
    """

    step: float
    sensitivity: float
    dimension: int
    steps: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.step < math.inf and 0 < self.sensitivity < math.inf):
            raise PrivacyRefused("a release needs a positive, finite sensitivity and step")

    @classmethod
    def for_local(cls, sensitivity: float, dimension: int) -> Grid:
        """So fine that rounding costs 0.1 % of the noise: for noise that one hospital adds.

        step = S / (1024 sqrt(D)) makes the rounding's sqrt(D) grid units 1/1024 of the sensitivity.
        In a ring the step is given instead, by what n hospitals' numbers have room for. The noise
        in grid units is then a matter of D alone, to the last bit: it may be drawn before S is
        known, and a sensitivity that adapts needs no other tables.
        """
        steps = _FINENESS * math.sqrt(max(1, dimension))
        return cls(sensitivity / steps, sensitivity, dimension, steps)

    @property
    def sensitivity_steps(self) -> float:
        """The most that two neighbouring rounded vectors are apart (L2), in grid units."""
        exact = self.steps if self.steps is not None else self.sensitivity / self.step
        return exact * (1 + FLOAT_ALLOWANCE) + math.sqrt(self.dimension)

    def sigma(self, noise_multiplier: float) -> float:
        """Standard deviation of the noise per coordinate, in grid units."""
        return noise_multiplier * self.sensitivity_steps

    def round(self, values: NDArray[np.floating[Any]], most: int | None = None) -> Integers:
        """Nearest grid points, int64, clipped to +-most, which brings no two vectors further apart
        (it is the nearest point of a box). Without ``most`` to +-2^52: float64 still has every
        whole number there.

        Raises PrivacyRefused for NaN or infinity.
        """
        scaled = np.array(values, np.float64)
        return self._round(scaled, scaled, most).astype(np.int64)

    def _round(
        self,
        values: NDArray[np.floating[Any]],
        out: NDArray[np.float64],
        most: int | None = None,
    ) -> NDArray[np.float64]:
        """``round``, as float64 in ``out``."""
        limit = float(most) if most is not None else 2.0**52
        np.divide(values, self.step, out=out)
        if not float(np.vdot(out, out)) <= limit * limit:  # else none is beyond, or NaN
            if not np.isfinite(out).all():
                raise PrivacyRefused(
                    "a value to be protected is NaN or infinite; lower training.lr?"
                )
            np.clip(out, -limit, limit, out=out)
        return np.rint(out, out=out)

    def draw(self, source: NoiseSource, noise_multiplier: float, size: int) -> Integers:
        """Noise for ``size`` of the coordinates, int64, in grid units: the sensitivity is of all D,
        so parts of a vector may be drawn one by one. Raises PrivacyRefused where it can't be drawn:
        below ``SMALLEST_SHARE`` a sum of shares would be no Gaussian."""
        return source.discrete_gaussian(self._drawn_sigma(noise_multiplier), size)

    def draw_each(self, sources: Sequence[NoiseSource], noise_multiplier: float) -> Integers:
        """``draw`` of all D from each source: A x D. Raises PrivacyRefused as there."""
        sigma = self._drawn_sigma(noise_multiplier)
        return discrete_gaussians(sources, sigma, self.dimension)

    def _drawn_sigma(self, noise_multiplier: float) -> float:
        sigma = self.sigma(noise_multiplier)
        if not SMALLEST_SHARE <= sigma <= LARGEST_SIGMA:
            raise PrivacyRefused(
                f"noise of {sigma:.3g} grid units can't be drawn exactly; "
                "use a smaller clipping_norm, or fewer hospitals at once"
            )
        return sigma

    def release(
        self, values: NDArray[np.floating[Any]], noise_multiplier: float, source: NoiseSource
    ) -> NDArray[np.float64]:
        """Rounded, noised values in their own unit, shape of ``values``; all D or a part.

        Every value is a multiple of ``step`` up to one rounding of float64, so its low bits tell
        nothing of the value before noise.
        """
        return self.noised(values, self.draw(source, noise_multiplier, np.size(values)))

    def noised(
        self,
        values: NDArray[np.floating[Any]],
        noise: NDArray[np.signedinteger[Any]],
        out: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """``release`` with noise that was drawn before, for these values and no others.

        noise : one for each value, as ``draw`` gives it, up to 2^52 in magnitude
        out : where the released values go, of the shape of ``values``; None: new memory
        """
        out = np.empty(np.shape(values)) if out is None else out
        flat, released = np.asarray(values).reshape(-1), out.reshape(-1)
        # in parts that a processor's cache holds; all are whole numbers of at most 2^53, of which
        # float64 has every one: the sum is exact
        for start in range(0, flat.size, _PART):
            part = slice(start, start + _PART)
            one = self._round(flat[part], released[part])
            one += noise[part]
            one *= self.step
        return out


def ring_reach(bound: float, noise: float, clients: int) -> float:
    """The magnitude that one client's coordinate may need in a ring that ``clients`` share: so that
    n such numbers hold n bounds and the noise of them all, 12 sqrt(n) sigma.

    bound : of the values before noise, in the released unit
    noise : standard deviation of one client's share, in that unit
    """
    # the shares' deviations add in squares; a client's part of their reach is 12 sigma / sqrt(n)
    return bound + NOISE_REACH * noise / math.sqrt(clients)
