"""The formulas, one pair of unit and concept at a time in float64: slow, and nothing to get wrong."""

import numpy as np


def softmax(match, scale):
    powers = np.exp(scale * match - (scale * match).max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best(activations, count):
    return np.argsort(-activations, kind="stable")[:count]


def by_pair(function, match, neurons):
    return np.array([[function(p, a) for p in match.T] for a in neurons.T])


def cos(match, neurons):
    def pair(p, a):
        lengths = np.linalg.norm(a) * np.linalg.norm(p)
        return a @ p / lengths if lengths else 0.0

    return by_pair(pair, match, neurons)


def cos_cubed(match, neurons, min_norm=1e-3):
    def pair(p, a):
        p, a = (p - p.mean()) ** 3, (a - a.mean()) ** 3
        return a @ p / max(np.linalg.norm(a), min_norm) / max(np.linalg.norm(p), min_norm)

    return by_pair(pair, match, neurons)


def rank_reorder(match, neurons, orders, top_fraction=0.05, power=3, scale_power=0.5):
    count = max(1, int(len(neurons) * top_fraction))

    def pair(p, a):
        images = best(a, count)
        p, a = p[images], a[images]
        rising = np.sort(a)
        ranks = np.empty(count, int)
        ranks[np.argsort(p, kind="stable")] = np.arange(count)
        chance = np.mean([np.abs(rising - rising[order]) ** power for order in orders])
        error = np.mean(np.abs(a - rising[ranks]) ** power)
        return -(error / chance if chance else 1.0) / max(p.mean(), 1e-6) ** scale_power

    return by_pair(pair, match, neurons)


def prior(likelihood):
    peak = likelihood.max(axis=0)
    return peak + np.log(np.exp(likelihood - peak).mean(axis=0))


def wpmi_likelihood(match, neurons, top_k=28, scale=2.0, min_probability=1e-7):
    probability = softmax(match, scale)
    return np.array([np.log(probability[best(a, top_k)] + min_probability).sum(axis=0) for a in neurons.T])


def wpmi(match, neurons, prior_weight=0.6, **settings):
    likelihood = wpmi_likelihood(match, neurons, **settings)
    return likelihood - prior_weight * prior(likelihood)


def soft_likelihood(match, neurons, top_k=100, scale=10.0, first=0.998, last=0.97, min_probability=1e-7):
    probability = softmax(match, scale)
    rows = []
    for a in neurons.T:
        images = best(a, top_k)
        member = (first - np.arange(len(images)) / top_k * (first - last))[:, None]
        rows.append(np.log(1 + member * (probability[images] - 1) + min_probability).sum(axis=0))
    return np.array(rows)


def soft_wpmi(match, neurons, prior_weight=1.0, **settings):
    likelihood = soft_likelihood(match, neurons, **settings)
    return likelihood - prior_weight * prior(likelihood)


def mean_embedding(match, neurons, top_k=30):
    return np.array([match[best(a, top_k)].mean(axis=0) for a in neurons.T])


def standardise(columns):
    centred = columns - columns.mean(axis=0)
    deviations = np.sqrt((centred**2).mean(axis=0))
    return np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 1e-12)


def whitened(columns, ridge):
    columns = standardise(columns)
    values, vectors = np.linalg.eigh(columns.T @ columns / len(columns))
    mean = values[values > 1e-7 * values.max()].mean()
    return standardise(columns @ vectors @ np.diag((values.clip(0) + ridge * mean) ** -0.5) @ vectors.T)


def off_centre(columns, width):
    correlations = np.corrcoef(columns.T)
    off = []
    for row in correlations:
        weights = np.exp((row - 1) / width)
        # the cosine of a concept with a weighted sum of concepts, from their correlations alone
        length = np.sqrt(weights @ correlations @ weights)
        off.append(1 - weights @ row / length)
    return np.array(off)


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]  # torch's median: the lower of two


def whitened_wpmi(
    match, neurons, match_ridge=1, unit_ridge=5, few=50, spread=2, leak=0.25, silence=0.25, prior_weight=0.85, half=5,
    shrinkage=0.2, centre_weight=120, centre_width=0.015, nested=0, name_weight=0,
):  # fmt: skip
    deviations, units = match.std(axis=0), neurons.shape[1]
    white = whitened(match, match_ridge)
    factors = white * deviations / np.sqrt(deviations**2 + (shrinkage * lower_median(deviations)) ** 2)
    rectified = standardise(np.maximum(factors, 0) + leak * np.minimum(factors, 0)) * factors.std(axis=0)
    rows = []
    for b in whitened(neurons, unit_ridge * (1 + few / units)).T:
        above, below = np.maximum(b - lower_median(b), 0), np.maximum(lower_median(b) - b, 0)
        row = (above / above.sum() - silence * below / below.sum()) @ rectified
        rows.append(spread * (row - row.mean()) / row.std())
    rows = np.array(rows)
    penalty = centre_weight * off_centre(white, centre_width) + name_weight * np.array(nested)
    return rows - prior_weight * units / (units + half) * prior(rows) - penalty
