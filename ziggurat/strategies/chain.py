"""How results at different rungs of a fidelity ladder hang together: an autoregressive chain of processes.

f_r = rho_r f_(r-1) + delta_r. Every link has a part that similar candidates share (times the kernel of
`kernel`), a part of each candidate alone (a nugget, which travels up the chain), and a constant offset; noise
belongs to one result only. The model ranks even where nothing is known about candidates but their results.

Source: Kennedy and O'Hagan 2000, Biometrika 87(1), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
FIRST_OFFSET = 1.0
OFFSET = 3.0
"""Standard deviations of the offsets of the lowest rung and of the links together, in its results' spread."""


@dataclass(frozen=True)
class Links:
    """Covariances between rungs, each (rungs, rungs): shared, own and offset parts; noise is (rungs,)."""

    shared: FloatArray
    own: FloatArray
    offset: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class Chain:
    """Parameters of a chain as one vector: log shared amplitudes, log own amplitudes, log noise, slopes.

    Attributes:
        rungs: Number of rungs, at least one.
    """

    rungs: int

    @property
    def size(self) -> int:
        """Number of parameters."""
        return 4 * self.rungs - 1

    def prior(self) -> tuple[FloatArray, FloatArray]:
        """Means and standard deviations of the normal priors."""
        links = self.rungs - 1
        step = 1.0 / np.sqrt(max(1, links))
        mean = [
            *[np.log(0.8), *[np.log(0.4 * step)] * links],
            *[np.log(0.4), *[np.log(0.3 * step)] * links],
            *[np.log(0.1)] * self.rungs,
            *[1.0] * links,
        ]
        spread = [*[0.7] * (2 * self.rungs), *[0.7] * self.rungs, *[0.3 * np.sqrt(step)] * links]
        return np.array(mean), np.array(spread)

    def links(self, vector: npt.NDArray[Any]) -> Links:
        """Covariances between rungs for a parameter vector (real or complex)."""
        r = self.rungs
        shared, own, noise = (np.exp(2 * vector[i * r : (i + 1) * r]) for i in range(3))
        offset = np.array([FIRST_OFFSET**2, *[OFFSET**2 / max(1, r - 1)] * (r - 1)])
        climb = np.eye(r, dtype=vector.dtype)
        for i, slope in enumerate(vector[3 * r :], start=1):
            climb[i, :i] = slope * climb[i - 1, :i]
        return Links((climb * shared) @ climb.T, (climb * own) @ climb.T, (climb * offset) @ climb.T, noise)

    def gradient(self, vector: FloatArray, outer: Links) -> FloatArray:
        """Gradient of the sum of `outer` times the covariances, by complex steps (exact to rounding)."""
        found = np.empty(self.size)
        for i in range(self.size):
            moved = vector.astype(complex)
            moved[i] += 1e-30j
            at = self.links(moved)
            total = (at.shared * outer.shared).sum() + (at.own * outer.own).sum()
            total += (at.offset * outer.offset).sum() + (at.noise * outer.noise).sum()
            found[i] = total.imag / 1e-30
        return found
