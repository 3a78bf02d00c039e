"""Two wrong answers to each exercise, as a student may give them: by notebook, exercise by exercise."""

WRONG = {
    "01_balm": [
        (
            "def realised_rate(rates, m):\n    return rates[m]",
            "def realised_rate(rates, m):\n    return rates[m] - np.prod(rates)",
        ),
        (
            "def steady_coefficients(progress):\n    return torch.softmax(progress, dim=0)",
            "def steady_coefficients(progress):\n    return 1 - progress",
        ),
        (
            "def step_ratio(optimizer):\n    return 3.0",
            "def step_ratio(optimizer):\n    return 1.0",
        ),
    ],
    "02_dream": [
        (
            "def step_weight(size, count):\n    return 1 / 2 ** (count - 1)",
            "def step_weight(size, count):\n    return 1 / count",
        ),
        ("def agreeing():\n    return 1", "def agreeing():\n    return 1 / 3"),
        (
            "def orders_needed(s, e):\n    return s / e",
            "def orders_needed(s, e):\n    return (e / s) ** 2",
        ),
    ],
    "03_ebmc": [
        (
            "def flat(utterances):\n    return 0.0",
            "def flat(utterances):\n    return np.log(utterances - 1)",
        ),
        (
            "def moves(energies, rate):\n    return -rate * (energies[:, None] - energies).sum(axis=1)",
            "def moves(energies, rate):\n    return 2 * rate * (energies[:, None] - energies).sum(axis=1)",
        ),
        (
            "def fair(nobody, first, second, both):\n    return first - nobody",
            "def fair(nobody, first, second, both):\n    return (both - nobody) / 2",
        ),
    ],
    "04_mculora": [
        (
            "def adapter_parameters(modalities, width, rank):\n    return (2**modalities - 1) * 2 * width * rank",
            "def adapter_parameters(modalities, width, rank):\n    return 2**modalities * width * rank",
        ),
        (
            "def merged(weight, down, up):\n    return weight + down @ up",
            "def merged(weight, down, up):\n    return up @ down",
        ),
        (
            "def change(first, second, rate):\n    return rate * first @ second",
            "def change(first, second, rate):\n    return -rate * second @ second",
        ),
    ],
    "05_gmm_loss": [
        (
            "def largest_gap(classes):\n    return 1 / classes",
            "def largest_gap(classes):\n    return 1.0",
        ),
        (
            "def crossing(shares, means, variance):\n    return sum(means) / 2",
            "def crossing(shares, means, variance):\n"
            "    return sum(means) / 2 - variance * np.log(shares[0] / shares[1]) / (means[1] - means[0])",
        ),
        (
            "def meeting_point(audio, vision):\n    return 1.0",
            "def meeting_point(audio, vision):\n    return max(audio, vision)",
        ),
    ],
    "06_side_by_side": [
        (
            "def mean_ranks(scores):\n    return scores.mean(axis=1)",
            "def mean_ranks(scores):\n    return 1 + (scores[None] < scores[:, None]).sum(1).mean(1)",
        ),
        (
            "def interval(ours, own, quantile):\n    d = ours - own\n    half = quantile * d.std() / len(d) ** 0.5\n"
            "    return d.mean() - half, d.mean() + half",
            "def interval(ours, own, quantile):\n    half = quantile * (ours - own).std(ddof=1)\n"
            "    return ours.mean() - own.mean() - half, ours.mean() - own.mean() + half",
        ),
        (
            "def nothing_missing(rates):\n    return np.prod(1 - rates)",
            "def nothing_missing(rates):\n    return 1 - rates.mean()",
        ),
    ],
}
