"""The sections on what the encoder of a run is worth: accuracies, classes, neighbours, map and attention."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from contrastkit.errors import UserError
from contrastkit.evaluate.confusion import confusion_chart, confusions, mean_per_class
from contrastkit.evaluate.linear import rates_chart
from contrastkit.evaluate.made import Made
from contrastkit.explore.attending import attend, draw_maps
from contrastkit.report.commands import line
from contrastkit.report.content import Block, Missing, Scale, Table, Text
from contrastkit.report.measured import Measured
from contrastkit.report.pictures import drawn, found
from contrastkit.report.results import EVALUATIONS, OWN, Report, Result, linear
from contrastkit.report.retrieved import retrieval_table, zero_shot_table
from contrastkit.training.seen import Seen

CLASSES = 12  # in the table of classes, those with the lowest accuracy
ATTENDED = 3  # images whose maps are drawn


TABLES = {"retrieval": retrieval_table, "zero-shot": zero_shot_table}

# What is read of each file, for it to be whole.
WHOLE: dict[str, Callable[[Report], object]] = {
    **dict.fromkeys(EVALUATIONS, lambda report: report.results),
    **TABLES,
    "measure": Measured.of,
    "map": lambda report: None,
}


class Results:
    """The evaluations in a run folder that are of its encoder.

    Attributes:
        shown: by name, in the order of :data:`WHOLE`.
        why: what is not shown: name -> the reason.
        items: what was tested on, such as images.
    """

    def __init__(self, run: Path, weights: str | None, size: int | None = None, *, items: str = "images") -> None:
        self.run, self.weights, self.items = run, weights, items
        self.shown: dict[str, Report] = {}
        self.why: dict[str, str] = {}
        for name in WHOLE:
            try:
                report = Report.read(run / f"{name}.json")
                if report is None:
                    self.why[name] = ""
                elif reason := report.stale(weights, size):
                    self.why[name] = reason
                else:
                    _ = report.data, WHOLE[name](report)
                    self.shown[name] = report
            except UserError as error:
                self.why[name] = str(error)

    @property
    def made(self) -> list[Made]:
        """What made those that are shown and say so."""
        return [report.made for report in self.shown.values() if report.made is not None]

    def accuracies(self, labels: str) -> list[Block]:
        """The table of all results; ``labels`` says why there can be none, "" if there can."""
        if labels:
            return [Missing(labels)]
        blocks: list[Block] = []
        results = {name: self.shown[name].results for name in EVALUATIONS if name in self.shown}
        if results:
            blocks.append(self._table(results))
        if not any(len(each) > 1 for name, each in results.items() if name != "finetune") and results:
            blocks.append(
                Missing(
                    "no baselines: without an untrained encoder and raw pixels, accuracy means little",
                    self._command("knn", "--baselines"),
                )
            )
        for name in EVALUATIONS:
            blocks += self._unsure(name)
        for name in EVALUATIONS:
            if name in self.why:
                blocks.append(Missing(self.why[name] or f"no {name}.json yet", self._command(name)))
        return blocks

    def _command(self, name: str, *options: str) -> str:
        return line(["contrastkit", name, str(self.run), *options])

    def _unsure(self, name: str) -> list[Block]:
        """What to say of a report whose weights cannot be compared with those of the run."""
        if name not in self.shown or (self.shown[name].made is not None and self.weights):
            return []
        if self.shown[name].made is None:
            return [Text(f"{name}.json does not say of which weights it is: an earlier version wrote it.")]
        return [Text(f"{name}.json may be of other weights: those of the run cannot be loaded here.")]

    def _table(self, results: Mapping[str, Sequence[Result]]) -> Table:
        rows = []
        for name, each in results.items():
            for result in each:
                accuracy, chance = result.accuracy, 1 / max(1, _tested(result))
                spread = "" if result.std is None else f" \N{PLUS-MINUS SIGN} {100 * result.std:.2f}"
                low, high = accuracy.interval
                rows.append(
                    (
                        EVALUATIONS[name],
                        result.name,
                        f"{100 * accuracy.top1:.2f} %{spread}",
                        f"{100 * low:.1f} to {100 * high:.1f} %",
                        Scale(accuracy.top1, low, high, chance),
                    )
                )
        data = list(dict.fromkeys(self.shown[name].data for name in results))
        how = "; ".join(
            f"{EVALUATIONS[name]}: {each[0].accuracy.n:,} test {self.items}"
            f"{f' of {self.shown[name].data}' * (len(data) > 1)}, {self.shown[name].how}"
            for name, each in results.items()
        )
        note = (
            f"{how}. Interval: Wilson's, 95 %; \N{PLUS-MINUS SIGN}: standard "
            "deviation over seeds. Dashed: chance with classes of equal size."
        )
        columns = ("evaluation", "features", "top-1", "95 % interval", "0 to 100 %")
        return Table(f"Accuracy on the test {self.items} of {' and '.join(data)}", columns, tuple(rows), (2, 3), note)

    def retrieved(self, *, views: bool, texts: bool) -> list[Block]:
        """What was retrieved by what, of a run with encoders of several views or with a text tower; and the zero-shot
        classes of the latter."""
        blocks: list[Block] = []
        for name, command, possible in (("retrieval", "retrieve", views or texts), ("zero-shot", "zero-shot", texts)):
            if name in self.shown:
                blocks += [*self._unsure(name), TABLES[name](self.shown[name])]
            elif self.why[name] or possible:
                blocks.append(Missing(self.why[name] or f"no {name}.json yet", self._command(command)))
        return blocks

    def rates(self) -> list[Block]:
        """The choice of the probe's learning rate."""
        probe = None if "probe" not in self.shown else linear(self.shown["probe"].results[0])
        if probe is None:
            return []
        alt = f"Top-1 on held-out training {self.items} against the learning rate; {probe.rate:g} was chosen"
        return [drawn(partial(rates_chart, probe=probe, name=OWN), alt=alt)]

    def classes(self, labels: str) -> list[Block]:
        """The confusion matrices, and the classes in numbers."""
        blocks: list[Block] = []
        for name, title in EVALUATIONS.items():
            result = self.shown[name].results[0] if name in self.shown else None
            if result is None or not any(each.n for each in result.classes.values()):
                continue
            mistakes = [
                f"{true} for {answer} ({100 * share:.0f} %)" for share, true, answer in confusions(result.classes)
            ]
            alt = f"Confusion matrix of {title}. Most often taken for another: {', '.join(mistakes[:3]) or 'none'}"
            heading = f"{title} of {result.name} on {self.shown[name].data}"
            draw = partial(confusion_chart, results=result.classes, title=heading)
            blocks += [drawn(draw, alt=alt), _class_table(title, result, self.items)]
        if not blocks:
            blocks.append(Missing(labels or "no evaluation yet", "" if labels else self._command("knn")))
        return blocks

    def neighbours(self, labels: str) -> list[Block]:
        return self._picture("knn", "knn-neighbours.png", labels, "Test images and their nearest training images")

    def map(self) -> list[Block]:
        alt = f"The {self.items} in the plane: near points have similar features"
        return [*self._unsure("map"), *self._picture("map", "map.png", "", alt)]

    def measured(self) -> list[Block]:
        """The numbers of the features, and the accuracy under shift."""
        if "measure" in self.why:
            return [Missing(self.why["measure"] or "no measure.json yet", self._command("measure"))]
        measured = Measured.of(self.shown["measure"])
        blocks: list[Block] = [*self._unsure("measure"), *measured.tables]
        if measured.corrupted:
            alt = "Accuracy of kNN and linear probe against the strength of each corruption"
            blocks += self._picture("measure", "shift.png", "", alt, "--shift")
        if measured.layers:
            alt = "How alike the layers of this run and of another are, as a matrix of CKA"
            blocks += self._picture("measure", "cka.png", "", alt, "--cka", "RUN")
        return blocks

    def _picture(self, name: str, file: str, why: str, alt: str, *options: str) -> list[Block]:
        """A picture that a command has drawn with its report."""
        command = self._command(name, *options)
        if why or name in self.why:
            return [Missing(why or self.why[name] or f"no {file} yet", "" if why else command)]
        picture = self.shown[name].picture(file)
        if picture is None:
            return [Missing(f"no {file} that was drawn with {name}.json", command)]
        try:
            return [found(picture, alt=alt)]
        except OSError as error:  # PIL's for a damaged one
            return [Missing(f"{file} cannot be read: {error}", command)]


def _tested(result: Result) -> int:
    return sum(each.n > 0 for each in result.classes.values())


def _class_table(title: str, result: Result, items: str) -> Table:
    tested = {name: each for name, each in result.classes.items() if each.n}
    names = sorted(tested, key=lambda name: tested[name].top1)[:CLASSES]
    rows = []
    for name in names if len(tested) > CLASSES else tested:
        each = tested[name]
        others = confusions({name: each})
        most = f"{others[0][2]} ({100 * others[0][0]:.0f} %)" if others else ""
        low, high = each.interval
        rows.append((name, f"{100 * each.top1:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %", f"{each.n:,}", most))
    which = f"the {CLASSES} lowest of {len(tested)} classes" if len(tested) > CLASSES else f"{len(tested)} classes"
    mean = f"mean of all classes {100 * mean_per_class(result.classes):.1f} %"
    columns = ("class", "top-1", "95 % interval", f"test {items}", "most often taken for")
    return Table(f"{title}: {which}, {mean}", columns, tuple(rows), (1, 2, 3), folded=True)


def attention(run: Path, seen: Seen | None, why: str) -> list[Block]:
    """What the encoder sees where in the first training images; ``why``: why there is no encoder or no image."""
    command = line(["contrastkit", "attend", str(run), "IMAGE"])
    if why or seen is None:
        return [Missing(why or "the images that it was trained on are not at hand", command)]
    from PIL import Image

    pixels, index = seen.source.take(seen.source.order(seen.seed, 0)[:ATTENDED])
    with tempfile.TemporaryDirectory() as folder:
        files: list[Path] = []
        for image, i in zip(pixels, index.tolist(), strict=True):
            name = Path(seen.source.paths[i]).stem if seen.source.paths else f"image {i}"
            files.append(Path(folder) / str(len(files)) / f"{name}.png")
            files[-1].parent.mkdir()
            if image.shape[0] not in (1, 3):
                return [Missing(f"images of {image.shape[0]} channels cannot be drawn")]
            array = image.permute(1, 2, 0).squeeze(2) if image.shape[0] == 1 else image.permute(1, 2, 0)
            Image.fromarray(array.to(torch.uint8).numpy()).save(files[-1])
        try:
            report = attend(run, files, device="cpu")
        except UserError as error:
            return [Missing(str(error), command)]
        h, w = report.grid
        alt = f"Training images beside the principal components of their {h} x {w} patches"
        if report.attention is None:
            note = "No attention: the encoder is no vision transformer with a class token."
        else:
            note = "Attention: of the class token in the last layer."
            alt += ", and the attention of the class token"
        return [drawn(lambda file: draw_maps(report, file), alt=alt), Text(note)]
