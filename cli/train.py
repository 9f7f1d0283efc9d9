"""``contrastkit train METHOD``: a command for each method, its options generated from the recipe's fields."""

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Data, DataDir, Debug, Download, Json, ValFraction, Workers, where
from typer.core import TyperGroup

from contrastkit.errors import UserError
from contrastkit.names import DEFAULT_DATA, METHODS, SUMMARIES, VIEW_NAMES

if TYPE_CHECKING:
    from contrastkit.methods import Recipe


class Methods(TyperGroup):
    """The methods' commands. Listing them imports nothing; the one that is called gets its options from its recipe."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, (stub if name is None else command(name)), rest


train_app = typer.Typer(
    cls=Methods,
    no_args_is_help=True,
    help="Train a method. Each number of its recipe is an option: train METHOD --help.",
)
for _name, _summary in SUMMARIES.items():
    train_app.command(_name, help=_summary)(lambda: None)


def command(method: str) -> Any:
    """The command of one method: common options, then one for each number of its recipe."""
    from contrastkit.methods import RECIPES

    rows = {name: recipe for name, recipe in RECIPES.items() if name.startswith(f"{METHODS[method]}/")}
    own = [*_recipe_parameters(rows), *_view_parameters(rows)]

    def run(**given: Any) -> None:
        numbers = {p.name: given.pop(p.name) for p in own}
        train(method, {name: value for name, value in numbers.items() if value is not None}, **given)

    common = list(inspect.signature(train).parameters.values())[2:]
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in (*common, *own)])  # type: ignore[attr-defined]
    run.__doc__ = SUMMARIES[method]
    single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    single.command(method)(run)
    return typer.main.get_command(single)


def train(
    method: str,
    numbers: dict[str, Any],
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Force this row of the recipe; else the images and the encoder choose.", metavar="ROW"),
    ] = None,
    workers: Workers = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, or auto \\[auto].")] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"] | None,
        typer.Option(help="Arithmetic of the encoders; auto is bfloat16 where the device has it \\[auto]."),
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile the encoders and heads.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Everything random follows from it \\[0].", min=0, max=2**63 - 1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; else runs/METHOD-ROW-DATA.", metavar="RUN")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run; it needs nothing else.", metavar="RUN")
    ] = None,
    stop_after: Annotated[int | None, typer.Option(help="Leave after this many epochs of the schedule.", min=1)] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Keep a checkpoint every this many epochs; 0 keeps the last only \\[0].", min=0)
    ] = None,
    monitor_every: Annotated[
        int | None,
        typer.Option(help="Epochs between looks at kNN accuracy and collapse; 0 is never \\[1].", min=0),
    ] = None,
    max_bad: Annotated[
        float | None,
        typer.Option(help="Stop when more than this share of the images is unreadable \\[0.01].", min=0, max=1),
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Train one method: choose the recipe, open or resume the run, and say how it went."""
    from contrastkit import dist
    from contrastkit.data import default_workers
    from contrastkit.train import Options
    from contrastkit.train import train as run_training
    from contrastkit.types import Modality

    fields = {f.name for f in dataclasses.fields(Options)}
    given = {name: value for name, value in locals().items() if name in fields}
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    if data is not None:
        given["data"] = resolved(data)
    if resume is not None:
        name, chosen, options = _resumed(resume, method, numbers, given, out=out, recipe=recipe)
        dist.init(options.device)
        opened = options.open_data()
    else:
        options = Options(**{"data": DEFAULT_DATA, **given, "data_dir": where(data_dir)})
        dist.init(options.device)
        opened = options.open_data()
        if workers is None:
            options = dataclasses.replace(options, workers=default_workers(opened.pretrain))
        name, chosen = choose(method, numbers, opened, recipe)
        out = out or Path(dist.broadcast_str(_free_folder(name, opened.name)))
    shown = dist.rank() == 0
    folder = resume or out
    assert folder is not None
    source = opened.pretrain
    if shown:
        screen.say(
            f"recipe {name} on {opened.name}: {len(source):,} {source.description}; "
            f"{chosen.epochs} epochs of batch {chosen.batch}; run folder {folder}"
        )
    with screen.TrainingScreen(shown=shown) as watch:
        outcome = run_training(
            name,
            chosen,
            options,
            out=folder,
            resume=resume is not None,
            stop_after=stop_after,
            watch=watch,
            data=opened,
        )
    if not shown:
        return
    speed = "" if math.isnan(outcome.images_per_s) else f", {outcome.images_per_s:,.0f} images/s"
    end = "trained" if outcome.finished else "stopped"
    screen.say(f"{end} at step {outcome.step}: {outcome.seconds:.0f} s of training{speed}")
    if outcome.finished:
        judges = ("retrieve",) if source.modality is Modality.ALIGNED and source.labels is None else ("knn", "probe")
        screen.say(f"judge it: {'   '.join(f'contrastkit {command} {folder}' for command in judges)}")
    else:
        screen.say(f"go on: contrastkit train {method} --resume {folder}")
    if json is not None:
        from contrastkit.cli.main import write_json

        report = {"run": str(folder), "name": name, "step": outcome.step, "finished": outcome.finished}
        write_json(json, report | {"seconds": outcome.seconds} | outcome.last)


def resolved(data: str) -> str:
    """A set's name, or paths that hold from any folder: a run can be resumed and judged from elsewhere."""
    from contrastkit.data import data_names
    from contrastkit.data.aligned import parse_folders

    if data in data_names():
        return data
    if Path(data).exists():
        return str(Path(data).resolve())
    if "=" not in data:
        return data
    return ",".join(f"{name}={folder.resolve()}" for name, folder in parse_folders(data).items())


def choose(method: str, numbers: dict[str, Any], opened: Any, row: str | None) -> tuple[str, "Recipe"]:
    """The recipe that the images, the encoder and the options lead to, and its name."""
    from contrastkit.methods import RECIPES, choose_row

    source = opened.pretrain
    next(recipe for name, recipe in RECIPES.items() if name.startswith(f"{METHODS[method]}/")).check(source)
    encoder, digits = numbers.get("encoder"), source.orientation_matters
    name = choose_row(method, size=source.size, encoder=encoder, digits=digits, row=row)
    return name, with_numbers(RECIPES[name], numbers)


def _resumed(
    resume: Path, method: str, numbers: dict[str, Any], given: dict[str, Any], *, out: Path | None, recipe: str | None
) -> tuple[str, "Recipe", Any]:
    """The name, recipe and options of the run, with what the user gives; ``train`` says what a run cannot change."""
    from contrastkit.run import Run
    from contrastkit.train import Options, recipe_from_json

    if out is not None:
        raise UserError("--out and --resume exclude each other: a resumed run stays in its folder")
    record = Run.open(resume, writes=False).recipe
    name = record["name"]
    if METHODS[method] != name.split("/")[0]:
        raise UserError(
            f"{resume} holds a run of {name}, not of {METHODS[method]}: "
            f"contrastkit train {name.split('/')[0]} --resume {resume}"
        )
    if recipe is not None and recipe != name.split("/")[1]:
        raise UserError(f"a run keeps its recipe: {resume} is {name}; leave --recipe out")
    chosen = with_numbers(recipe_from_json(name, record["recipe"]), numbers)
    kept = record["options"]
    return name, chosen, Options(**kept | given | {"data_dir": where(given.get("data_dir"), kept["data_dir"])})


def with_numbers(recipe: "Recipe", numbers: dict[str, Any]) -> "Recipe":
    """The recipe with the options given: its own fields by name, those of its views for all views or one by one."""
    from contrastkit.augment import named_views

    changes = dict(numbers)
    rows = changes.pop("views", None)
    views = named_views(rows) if rows else recipe.views
    each: list[dict[str, Any]] = [{} for _ in views]
    kind = type(views[0])
    for item in dataclasses.fields(kind):
        text = changes.pop(f"view_{item.name}", None)
        if text is not None:
            values = _values(text, item.name, _bare(typing.get_type_hints(kind)[item.name]), len(views))
            for view, value in zip(each, values, strict=True):
                view[item.name] = value
    views = tuple(dataclasses.replace(view, **numbers) for view, numbers in zip(views, each, strict=True))
    for item in dataclasses.fields(recipe):
        if isinstance(getattr(recipe, item.name), tuple) and isinstance(changes.get(item.name), str):
            changes[item.name] = tuple(_number(part, item.name, float) for part in changes[item.name].split(","))
    return dataclasses.replace(recipe, **changes, views=views)


def _recipe_parameters(rows: dict[str, "Recipe"]) -> list[inspect.Parameter]:
    """One option for each field of the recipe but the views; its help ends with the rows' numbers."""
    from contrastkit.types import Modality

    kind = type(next(iter(rows.values())))
    parameters = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if name == "views":
            if next(iter(rows.values())).modality is Modality.SOUND:
                continue
            help_ = f"Row of augmentations: {', '.join(VIEW_NAMES)}."
            parameters.append(_option(name, str, help_, "--views", "views"))
            continue
        bare, note = typing.get_args(hint)
        values = {row.split("/")[1]: getattr(recipe, name) for row, recipe in rows.items()}
        flag = f"--{name.replace('_', '-')}"
        if bare is bool:
            flag = f"{flag}/--no-{name.replace('_', '-')}"
        text = typing.get_origin(bare) is tuple
        parameters.append(
            _option(name, str if text else bare, f"{note} \\[{'; '.join(per_row(values))}]", flag, "recipe")
        )
    return parameters


def _view_parameters(rows: dict[str, "Recipe"]) -> list[inspect.Parameter]:
    """One option for each number of a view; its value is for all views, or comma-separated, one for each."""
    parameters = []
    kind = type(next(iter(rows.values())).views[0])
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        _, note = typing.get_args(hint)[:2]
        values = {
            row.split("/")[1]: ",".join(dict.fromkeys(shown(getattr(v, name)) for v in recipe.views))
            for row, recipe in rows.items()
        }
        flag = f"--{name.replace('_', '-')}"
        parameters.append(
            _option(
                f"view_{name}",
                str,
                f"{note} \\[{'; '.join(per_row(values))}]",
                flag,
                "views: one value, or one for each",
            )
        )
    return parameters


def _option(name: str, kind: Any, help_: str, flag: str, panel: str) -> inspect.Parameter:
    option = typer.Option(flag, help=help_, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def per_row(values: dict[str, Any]) -> list[str]:
    """['0.07'], or ['imagenet: 0.07', '32, tiny: 0.1'] where the rows differ."""
    rows: dict[str, list[str]] = {}
    for row, value in values.items():
        rows.setdefault(shown(value), []).append(row)
    return list(rows) if len(rows) == 1 else [f"{', '.join(names)}: {value}" for value, names in rows.items()]


def shown(value: Any) -> str:
    """A number of a recipe as one types it."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, str) else str(value).lower()


def _values(text: str, name: str, kind: Callable[[str], Any], n: int) -> list[Any]:
    values = [_number(part, name, kind) for part in str(text).split(",")]
    if len(values) not in (1, n):
        raise UserError(f"--{name.replace('_', '-')} {text}: give one value, or {n}, one for each view")
    return values * n if len(values) == 1 else values


def _number(text: str, name: str, kind: Callable[[str], Any]) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.strip().lower()]
        return kind(text)
    except (ValueError, KeyError) as error:
        raise UserError(f"--{name.replace('_', '-')}: '{text}' is no {kind.__name__}") from error


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _free_folder(name: str, data: str) -> str:
    base = f"{name.replace('/', '-')}-{Path(data).stem}"
    folder, n = Path("runs") / base, 1
    while folder.exists():
        n += 1
        folder = Path("runs") / f"{base}-{n}"
    return str(folder)
