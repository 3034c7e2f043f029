import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_builders import a_corpus, a_run, a_spec

from lmforge_api.run import ProgressReport
from lmforge_api.trainingjob import Evaluation, ModelInit, ModelSource
from lmforge_workloads.common import artifact, metrics
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.common.progress import Reporter
from lmforge_workloads.train import data as tokens
from lmforge_workloads.train.baselines import evaluate_ngram, train_ngram
from lmforge_workloads.train.ngram import NgramModel, fit
from lmforge_workloads.train.order import EvaluationSamples

TEXTS = st.lists(st.integers(0, 4), min_size=3, max_size=80)


def all_continuations(context: list[int], vocabulary: int) -> np.ndarray:
    return np.array([[*context, token] for token in range(vocabulary)])


@given(text=TEXTS, order=st.integers(1, 5), context=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_probabilities_of_what_comes_next_add_up_to_one(text: list[int], order: int, context: list[int]) -> None:
    model = fit(np.array(text), order=order, vocabulary=6)
    probabilities = np.exp(model.log_probabilities(all_continuations(context, 6))[:, -1])
    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities > 0).all()


def by_definition(text: list[int], order: int, vocabulary: int) -> "Definition":
    return Definition(text, order, vocabulary)


class Definition:
    """Chen and Goodman's equations with dictionaries, one probability at a time."""

    def __init__(self, text: list[int], order: int, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        ring = text * (order + 1)
        self.counts: dict[int, Counter[tuple[int, ...]]] = {}
        for k in range(1, order + 1):
            grams = [tuple(ring[i : i + k]) for i in range(len(text))]
            longer = {tuple(ring[i : i + k + 1]) for i in range(len(text))}
            self.counts[k] = Counter(grams) if k == order else Counter(gram[1:] for gram in longer)
        self.discounts = {k: self.discount(counts) for k, counts in self.counts.items()}

    @staticmethod
    def discount(counts: Counter[tuple[int, ...]]) -> list[float]:
        n = [sum(1 for count in counts.values() if count == times) for times in range(5)]
        if not all(n[1:]):
            return [0.0, 0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return [0.0, *(min(max(value, 0.1), k) for k, value in enumerate(found, 1))]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        context = context[-(len(self.counts) - 1) :] if len(self.counts) > 1 else ()
        k = len(context) + 1
        shorter = self.probability(context[1:], token) if context else 1 / self.vocabulary
        following = {gram: count for gram, count in self.counts[k].items() if gram[:-1] == context}
        if not following:
            return shorter
        total = sum(following.values())
        count = following.get((*context, token), 0)
        taken = sum(self.discounts[k][min(value, 3)] for value in following.values())
        return (count - self.discounts[k][min(count, 3)] + taken * shorter) / total


@given(text=TEXTS, order=st.integers(1, 4), sample=st.lists(st.integers(0, 5), min_size=2, max_size=8))
def test_it_computes_what_the_papers_equations_say(text: list[int], order: int, sample: list[int]) -> None:
    definition = by_definition(text, order, 6)
    expected = [definition.probability(tuple(sample[:i]), sample[i]) for i in range(1, len(sample))]
    found = np.exp(fit(np.array(text), order=order, vocabulary=6).log_probabilities([sample]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_each_token_is_given_only_what_is_before_it_in_its_own_sample() -> None:
    model = fit(np.arange(50) % 7, order=3, vocabulary=8)
    samples = np.array([[1, 2, 3, 4], [5, 6, 0, 1]])
    together = model.log_probabilities(samples)
    alone = np.concatenate([model.log_probabilities(samples[n : n + 1]) for n in range(2)])
    np.testing.assert_array_equal(together, alone)
    shorter = model.log_probabilities(samples[:, :-1])
    np.testing.assert_array_equal(together[:, :-1], shorter)


def a_spec_of(order: int | None = None) -> object:
    return a_spec(
        model=ModelSource(init=ModelInit(architecture="ngram", order=order)),
        dataset=a_corpus(vocabulary=1000),
        evaluation=Evaluation(holdout=0.1, samples=20),
        sequence_length=64,
        steps=7,
    )


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tokens.Data:
    return tokens.prepare(a_run(tmp_path_factory.mktemp("store"), dataset=corpus, spec=a_spec_of()))


def test_longer_contexts_help_on_real_text(prepared: tokens.Data) -> None:
    samples = prepared.evaluation_samples(sequence_length=64, limit=20)
    losses = []
    for order in (1, 2, 3):
        model = fit(prepared.train.tokens, order=order, vocabulary=prepared.vocabulary)
        losses.append(evaluate_ngram(model, samples, step=1).loss)
    assert math.log(1000) > losses[0] > losses[1] + 0.5 > losses[2] + 0.5


def test_the_loss_is_the_mean_over_all_tokens_of_all_samples() -> None:
    text = np.arange(300) % 11
    model = fit(text, order=2, vocabulary=12)
    samples = EvaluationSamples(text.astype(np.uint16), sequence_length=3, limit=99)
    assert len(samples) == 99
    every = model.log_probabilities(samples.batch(range(99)))
    result = evaluate_ngram(model, samples, step=4)
    assert result.loss == pytest.approx(-every.mean())
    assert result.perplexity == pytest.approx(math.exp(result.loss))


def test_a_run_reports_exports_and_can_be_loaded(prepared: tokens.Data, tmp_path: Path) -> None:
    run = a_run(tmp_path, spec=a_spec_of(order=2))
    with Reporter(None, ProgressReport(attempt=1)) as reporter:
        status = train_ngram(run, data=prepared, reporter=reporter)
    report = reporter.report
    assert report.step == report.steps == 7
    assert report.evaluation is not None
    assert artifact.verify(tmp_path / "artifact") == []
    assert status.format == "LMForge"
    assert metrics.history(tmp_path)[0]["evaluation_loss"] == report.evaluation.loss

    loaded = NgramModel.load(tmp_path / "artifact")
    samples = prepared.evaluation_samples(sequence_length=64, limit=20)
    assert evaluate_ngram(loaded, samples, step=7) == report.evaluation
    assert (tmp_path / "artifact/tokenizer.json").exists()


def test_more_than_one_process_is_refused(prepared: tokens.Data, tmp_path: Path) -> None:
    run = a_run(tmp_path, spec=a_spec_of(), nodes=2)
    with pytest.raises(UserError, match="one process"):
        train_ngram(run, data=prepared, reporter=Reporter(None, ProgressReport(attempt=1)))
