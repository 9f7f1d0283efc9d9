"""What distillations share: a student with a last layer for the classes that a frozen teacher knows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import nn

from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.parts.heads import Tower
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.parts.teacher import Teacher
from contrastkit.types import Memory


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(Recipe):
    """Hyper-parameters of a distillation: teacher and student see the same single view."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_module: ClassVar[bool] = False  # whose classifier no file could describe
    learns_from_labels: ClassVar[bool] = True  # some rows without them

    def for_teacher(self, teacher: Teacher, source: Source, encoder: str | None) -> Self:
        """The recipe before the user's changes: with views of the size of the images that the teacher knows, and
        without flips where they would change the class.

        Args:
            encoder: that the user asks for, if any.
        """
        changes: dict[str, Any] = {} if teacher.size is None else {"size": teacher.size}
        if source.orientation_matters:
            changes["flip_p"] = 0.0
        return replace(self, views=tuple(replace(view, **changes) for view in self.views))

    @classmethod
    def student(cls, teacher: Teacher) -> str | None:
        """The encoder that is distilled by default; None is that of the recipe."""
        return None

    def teacher(self, context: BuildContext) -> Teacher:
        """The teacher.

        Raises:
            UserError: there is none, or it knows images of another size.
        """
        teacher = context.teacher
        if teacher is None:
            raise UserError("this method distils a teacher: give --teacher, a fine-tuned run or a file of weights")
        if teacher.size not in (None, size := self.views[0].size):
            raise UserError(
                f"the teacher {teacher.record.source} was trained on images of {teacher.size} px, and the views have "
                f"{size}: give --size {teacher.size}"
            )
        return teacher


class Distillation(Method[Memory]):
    """A student, ``online``: an encoder, and a linear layer for the teacher's classes."""

    def __init__(self, recipe: DistillationRecipe, context: BuildContext) -> None:
        super().__init__()
        self.teacher = recipe.teacher(context)
        encoder = recipe.build_encoder(context)
        self.online = Tower(encoder, nn.Linear(encoder.dim, self.teacher.n_classes))
        sync_batch_norm(self.online, context.world)

    @property
    def compiled(self) -> Sequence[nn.Module]:
        """The student's encoder, whose features are of use besides its logits."""
        return [self.online.encoder]

    @property
    def can_collapse(self) -> bool:
        return False
