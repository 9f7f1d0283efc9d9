"""The two towers of a subject that was trained on captions."""

from contrastkit.errors import UserError
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.loading import load_image_text
from contrastkit.parts.build import set_image_size
from contrastkit.parts.joint import ImageTextEncoder
from contrastkit.run import TOKENIZER, Run


def has_texts(subject: EvaluationSubject) -> bool:
    """Whether the subject is a run that has a text tower."""
    return subject.run is not None and (subject.run / TOKENIZER).is_file()


def joint_encoder(subject: EvaluationSubject, purpose: str) -> ImageTextEncoder:
    """The image tower, its projection and the text tower of the subject's run, on its device and for its size.

    Args:
        purpose: what needs texts, for the message.

    Raises:
        UserError: the subject is no run of clip.
    """
    if subject.run is None or not has_texts(subject):
        raise UserError(f"{purpose} needs a run of clip, {next(iter(subject.encoders))} has no text tower")
    run = Run.open(subject.run)
    joint = load_image_text(run, run.record)
    set_image_size(joint, subject.size)
    return joint.to(subject.device)
