"""Similarity of candidates before anything is trained: features, and a kernel over them with its gradient.

Two components are mixed: a rough one, exponential in the weighted Hamming distance of unordered choices
times squared exponentials in everything ordered; and a smooth one in what is ordered alone (numbers of each
operation, ordered choices, static metrics), with longer lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
FEWEST, MOST = 3, 12
"""Sizes of an alphabet whose symbols are counted, and fewest choices that share it."""


@dataclass(frozen=True)
class Features:
    """What is known of every candidate of a pool, ready for the kernel.

    Attributes:
        codes: (n, k) unordered choices as integers; a choice that is not active has a code of its own.
        smooth: (n, d) ordered columns, centred and scaled.
        moments: (2, d) means and standard deviations that were used, so that a pool can grow.
        symbols: Codes that are counted as columns; empty where the choices share no alphabet.
    """

    codes: IntArray
    smooth: FloatArray
    moments: FloatArray
    symbols: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.smooth)

    @property
    def known(self) -> bool:
        """Whether anything at all is known that tells candidates apart."""
        return bool(self.codes.shape[1] + self.smooth.shape[1])


def features(
    size: int,
    codes: npt.ArrayLike | None = None,
    ordered: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None,
    like: Features | None = None,
) -> Features:
    """Features of a pool.

    Args:
        size: Number of candidates, n.
        codes: (n, k) unordered choices as integers. If all columns use the same three or more codes, the
            number of times that each occurs becomes a column too.
        ordered: (n, d) ordered choices on a scale where equal steps matter equally.
        static: (n, s) metrics that are known before training; positive columns enter as logarithms.
        like: Features whose scaling is kept, for candidates that join a pool.
    """
    table = np.zeros((size, 0), dtype=np.int64) if codes is None else np.asarray(codes, dtype=np.int64)
    symbols = like.symbols if like else _alphabet(table)
    columns = [(table == symbol).sum(axis=1) for symbol in symbols]
    columns += [] if ordered is None else list(np.asarray(ordered, dtype=float).T)
    columns += [] if static is None else [_log(c) for c in np.asarray(static, dtype=float).T]
    raw = np.array(columns, dtype=float).reshape(len(columns), size).T
    moments = like.moments if like else np.stack([raw.mean(axis=0), raw.std(axis=0)])
    varies = moments[1] > 1e-9 * (1.0 + np.abs(moments[0]))
    smooth = np.where(varies, (raw - moments[0]) / np.where(varies, moments[1], 1.0), 0.0)
    return Features(table, np.nan_to_num(smooth), moments, symbols)


def _alphabet(codes: IntArray) -> tuple[int, ...]:
    if codes.shape[1] < FEWEST:
        return ()
    used = [set(np.unique(column).tolist()) for column in codes.T]
    shared = used[0]
    same = all(u == shared for u in used) and FEWEST <= len(shared) <= MOST
    return tuple(sorted(shared)) if same else ()


def _log(column: FloatArray) -> FloatArray:
    return np.log(column) if (column > 0).all() else column


@dataclass(frozen=True)
class Shape:
    """Parameters of the kernel as one vector: mixture, Hamming weights, rough lengths, smooth lengths (logs).

    Attributes:
        choices: Number of unordered choices, k.
        columns: Number of ordered columns, d.
    """

    choices: int
    columns: int

    @property
    def size(self) -> int:
        """Number of parameters."""
        return 1 + self.choices + 2 * self.columns

    def prior(self) -> tuple[FloatArray, FloatArray]:
        """Means and standard deviations of the normal priors."""
        k, d = self.choices, self.columns
        rough = np.log(1.5 * np.sqrt(max(1, d)))
        mean = [0.5 if k else 0.0, *[np.log(1.5 / max(1, k))] * k, *[rough] * d, *[rough + 0.5] * d]
        return np.array(mean), np.array([1.0, *[0.35] * k, *[0.7] * (2 * d)])

    def split(self, vector: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
        """Share of the rough component, Hamming weights, inverse squared lengths of both components."""
        k, d = self.choices, self.columns
        share = 1.0 / (1.0 + np.exp(-vector[0])) if d else 1.0
        return (
            float(share),
            np.exp(vector[1 : 1 + k]),
            np.exp(-2 * vector[1 + k : 1 + k + d]),
            np.exp(-2 * vector[1 + k + d :]),
        )


class Distances:
    """Distances within a set of candidates, kept while the parameters of the kernel are fitted."""

    def __init__(self, known: Features, rows: IntArray) -> None:
        codes, smooth = known.codes[rows], known.smooth[rows]
        self.shape = Shape(codes.shape[1], smooth.shape[1])
        n = len(rows)
        apart = (codes[:, None, :] != codes[None, :, :]).astype(float)
        square = (smooth[:, None, :] - smooth[None, :, :]) ** 2
        self._apart = apart.transpose(2, 0, 1).reshape(-1, n * n).copy()
        self._square = square.transpose(2, 0, 1).reshape(-1, n * n).copy()
        self._n = n

    def kernel(self, vector: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The kernel and its two components, each (n, n)."""
        share, weights, rough, smooth = self.shape.split(vector)
        first = np.exp(-(weights @ self._apart) - 0.5 * (rough @ self._square))
        second = np.exp(-0.5 * (smooth @ self._square))
        n = self._n
        mixed = share * first + (1 - share) * second
        return mixed.reshape(n, n), first.reshape(n, n), second.reshape(n, n)

    def gradient(
        self, vector: FloatArray, outer: FloatArray, first: FloatArray, second: FloatArray
    ) -> FloatArray:
        """Gradient with respect to the parameters of the sum of `outer` times the kernel."""
        share, weights, rough, smooth = self.shape.split(vector)
        one, two = (outer * first).ravel(), (outer * second).ravel()
        mix = share * (1 - share) * (one.sum() - two.sum()) if self.shape.columns else 0.0
        return np.concatenate(
            [
                [mix],
                -share * weights * (self._apart @ one),
                share * rough * (self._square @ one),
                (1 - share) * smooth * (self._square @ two),
            ]
        )


class Embedding:
    """Features in coordinates whose inner products give the kernel of any two candidates quickly."""

    def __init__(self, known: Features, vector: FloatArray) -> None:
        shape = Shape(known.codes.shape[1], known.smooth.shape[1])
        self._share, weights, rough, smooth = shape.split(vector)
        symbols = [np.unique(column) for column in known.codes.T]
        # two different codes are two coordinates of sqrt(w / 2) apart: a squared distance of w
        hot = [(known.codes[:, [j]] == symbols[j]) * np.sqrt(weights[j] / 2) for j in range(shape.choices)]
        scaled = known.smooth * np.sqrt(rough / 2)
        self._first = np.concatenate([*hot, scaled], axis=1).astype(np.float32)
        self._second = (known.smooth * np.sqrt(smooth / 2)).astype(np.float32)
        self._length = ((self._first**2).sum(axis=1), (self._second**2).sum(axis=1))

    def between(self, rows: IntArray, others: IntArray | slice) -> npt.NDArray[np.float32]:
        """(len(rows), len(others)) values of the kernel."""
        value = self._share * self._part(self._first, self._length[0], rows, others)
        if self._share < 1.0:
            value += (1 - self._share) * self._part(self._second, self._length[1], rows, others)
        found: npt.NDArray[np.float32] = value
        return found

    def _part(
        self,
        at: npt.NDArray[np.float32],
        length: npt.NDArray[np.float32],
        rows: IntArray,
        others: IntArray | slice,
    ) -> npt.NDArray[np.float32]:
        square = at[rows] @ at[others].T
        square *= 2
        square -= length[rows][:, None]
        square -= length[others][None, :]
        found: npt.NDArray[np.float32] = np.exp(np.minimum(square, 0, out=square), out=square)
        return found
