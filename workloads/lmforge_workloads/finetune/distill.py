"""What a student learns from a teacher's logits, and trl's trainer with it.

    loss = alpha · CE(student, label) + beta · T² · KL(softmax(student / T) ‖ softmax(teacher / T))

(Hinton et al., arXiv:1503.02531, section 2: T² keeps the size of the gradients; the direction of the divergence is
MiniLLM's, arXiv:2306.08543, which keeps a small student from spreading over what it can't copy.)
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from lmforge_api.finetune_parts import Distill
from lmforge_workloads.finetune.encode import IGNORED


@dataclass(frozen=True)
class DistillationLoss:
    """The loss, summed over the tokens that are learned."""

    alpha: float
    beta: float
    temperature: float

    @classmethod
    def of(cls, settings: Distill) -> "DistillationLoss":
        """As the spec has it."""
        return cls(settings.alpha, settings.beta, settings.temperature)

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Logits [B, S, V] of both, labels [B, S] that each position's next one predicts -> a scalar, in fp32."""
        learned = labels[:, 1:] != IGNORED
        student_nv = student[:, :-1][learned].float()
        loss = student_nv.new_zeros(())
        if self.alpha:
            loss = loss + self.alpha * functional.cross_entropy(student_nv, labels[:, 1:][learned], reduction="sum")
        if self.beta:
            # Both may have padded their outputs differently: what neither tokenizer has is left out.
            size = min(student_nv.shape[-1], teacher.shape[-1])
            teacher_nv = teacher[:, :-1][learned][:, :size].float()
            divergence = reverse_kl(student_nv[:, :size] / self.temperature, teacher_nv / self.temperature)
            loss = loss + self.beta * self.temperature**2 * divergence
        return loss


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student ‖ teacher) of softmaxes over logits [N, V], summed over N."""
    log_student, log_teacher = functional.log_softmax(student, dim=-1), functional.log_softmax(teacher, dim=-1)
    return (log_student.exp() * (log_student - log_teacher)).sum()
