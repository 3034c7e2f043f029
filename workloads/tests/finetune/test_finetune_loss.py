"""The distillation loss against its definition, and the error of 4-bit weights against its bound."""

import bitsandbytes.functional as bnb
import pytest
import torch
from torch.nn import functional

from lmforge_workloads.finetune.distill import DistillationLoss, reverse_kl
from lmforge_workloads.finetune.encode import IGNORED

VOCABULARY = 11


def logits(seed: int, *, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(2, 7, VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


LABELS = torch.randint(VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(9))
LABELS[0, :4] = IGNORED
LABELS[1, 5:] = IGNORED


def test_it_is_what_the_formula_says() -> None:
    student, teacher = logits(0), logits(1)
    expected, temperature = torch.zeros(()), 3.0
    for row in range(2):
        for place in range(6):
            if (label := LABELS[row, place + 1]) == IGNORED:
                continue
            p = (student[row, place] / temperature).softmax(0)
            q = (teacher[row, place] / temperature).softmax(0)
            divergence = (p * (p / q).log()).sum()
            expected = expected - 0.3 * student[row, place].log_softmax(0)[label] + 0.7 * temperature**2 * divergence
    torch.testing.assert_close(DistillationLoss(0.3, 0.7, temperature)(student, teacher, LABELS), expected)


def test_beta_0_is_plain_cross_entropy() -> None:
    student = logits(0)
    expected = functional.cross_entropy(
        student[:, :-1].reshape(-1, VOCABULARY), LABELS[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    torch.testing.assert_close(DistillationLoss(1.0, 0.0, 2.0)(student, logits(1), LABELS), expected)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn_from_it() -> None:
    student = logits(0).requires_grad_()
    loss = DistillationLoss(0.0, 1.0, 2.0)(student, logits(0), LABELS)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-5


def test_the_divergence_is_never_negative_and_torch_agrees() -> None:
    student, teacher = logits(0)[0], logits(1)[0]
    expected = functional.kl_div(teacher.log_softmax(-1), student.log_softmax(-1), log_target=True, reduction="sum")
    assert reverse_kl(student, teacher) > 0
    torch.testing.assert_close(reverse_kl(student, teacher), expected)


def test_the_square_of_the_temperature_keeps_the_size_of_gradients() -> None:
    """For small logits the gradient tends to (student - teacher) / V, whatever T is (arXiv:1503.02531, equation 4)."""
    sizes = []
    for temperature in (1.0, 4.0, 16.0):
        student = logits(0, scale=1e-2).requires_grad_()
        DistillationLoss(0.0, 1.0, temperature)(student, logits(1, scale=1e-2), LABELS).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes == pytest.approx([sizes[0]] * 3, rel=2e-2)


def test_outputs_that_only_one_of_both_has_do_not_count() -> None:
    student, teacher = logits(0), logits(1)
    padded = torch.cat([teacher, torch.full((2, 7, 5), 9.0)], dim=-1)
    loss = DistillationLoss(0.0, 1.0, 2.0)
    torch.testing.assert_close(loss(student, padded, LABELS), loss(student, teacher, LABELS))


@pytest.mark.parametrize("double", [False, True], ids=["plain", "double quantisation"])
def test_nf4_errs_by_at_most_half_its_widest_gap_times_the_largest_weight_of_a_block(double: bool) -> None:
    """arXiv:2305.14314: 16 levels on [-1, 1] a block of 64; between -1 and -0.6962 lies the widest gap."""
    weights = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    packed, state = bnb.quantize_4bit(weights, blocksize=64, quant_type="nf4", compress_statistics=double)
    back = bnb.dequantize_4bit(packed, state)
    largest = weights.reshape(-1, 64).abs().amax(dim=1, keepdim=True)
    error = (back - weights).reshape(-1, 64).abs()
    gap = (1.0 - 0.6961928) / 2
    slack = 0.02 * largest if double else 1e-6  # the scales themselves have 8 bits then
    assert (error <= gap * largest + slack).all()
