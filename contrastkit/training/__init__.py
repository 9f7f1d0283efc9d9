"""Training: ``plan`` decides what is trained, ``launch`` starts or resumes the run, ``loop`` runs its steps."""

from contrastkit.options import Options as Options
from contrastkit.training.launch import Outcome as Outcome
from contrastkit.training.plan import Plan as Plan
from contrastkit.training.progress import NullReporter as NullReporter
from contrastkit.training.progress import Progress as Progress
from contrastkit.training.progress import Reporter as Reporter
