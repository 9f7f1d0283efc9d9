"""Training: :func:`train` starts or resumes a run, :func:`contrastkit.training.loop.fit` runs its steps."""

from contrastkit.training.launch import Outcome as Outcome
from contrastkit.training.launch import train as train
from contrastkit.training.options import Options as Options
from contrastkit.training.progress import NullReporter as NullReporter
from contrastkit.training.progress import Progress as Progress
from contrastkit.training.progress import Reporter as Reporter
