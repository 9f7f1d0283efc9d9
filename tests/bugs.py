"""One-line bugs that the tests must catch: ``python -m tests.bugs [--check] [WORD...]``, a tool and no part of ``make
test``.

Each bug is put into a copy of the tree, where the tests named beside it run until one fails; before that, all of them
run without a bug and must pass. A line tells of each bug whether it is caught or MISSED; STALE is one whose tests could
not be run. With words, only bugs whose file or text has one of them are tried. It takes about five minutes on two
cores. With --check, no test is run: it only looks whether each bug's text and test are there, as every run does first.
The exit code is 1 if any is not there, missed or stale.
"""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch", "torchvision", "torch.utils.tensorboard", "matplotlib.figure", "sklearn.ensemble", "scipy.stats", "pandas",
    "networkx", "typer", "PIL.Image",
)  # fmt: skip
LOOP = "tests/training/test_loop.py"
PARTS = "tests/data/test_parts.py"
SHARDS = "tests/data/test_shards.py"
REMOTE = "tests/data/test_remote.py"
TARS = "tests/data/test_tars.py"
RUNS = "tests/training/test_training.py"
FOLDER = "tests/training/test_folder.py"
PLAN = "tests/training/test_plan.py"
START = "tests/training/test_start.py"
WEIGHTS = "tests/parts/test_weights.py"
NETWORKS = "test_an_encoder_from_anybodys_checkpoint_computes_what_their_network_computes"
LABELLED = "tests/data/test_labelled.py"
OPTIM = "tests/test_optim.py"
CLI = "tests/cli/test_cli.py"
EVALUATION = "tests/cli/test_options.py::test_an_option_changes_what_it_says"
SUBJECT = "tests/cli/test_options.py::test_the_options_of_a_subject_reach_it"
RESAMPLING = "tests/causal/test_resampling.py"
CAUSAL = "tests/cli/test_causal_options.py::test_an_option_changes_what_a_command_says"
STABLE = "tests/cli/test_stable_options.py::test_an_option_changes_what_a_command_says"
ABLATE = "tests/cli/test_ablate.py::test_each_option_reaches_the_library"
VIEWS = "tests/cli/test_views.py"
OPS = "tests/ops/test_private_checks.py::test_a_wrong_argument_is_refused_and_no_process_dies"
AUGMENT = "tests/ops/test_augment.py::test_views_are_those_of_the_loop"
CHOICES = "tests/ops/test_augment.py::test_choices_are_those_of_the_loop"
BOXES = "tests/transfer/test_boxes.py"
PATCHES = "tests/transfer/test_patches.py"
HEADS = "tests/transfer/test_loop.py"
DETECTOR = "tests/transfer/test_detector.py"
BENCH = "tests/cli/test_bench_kernels.py"
EXPORT = "tests/export/test_exporting.py"
NEAREST = "tests/explore/test_nearest.py"


class Bug(NamedTuple):
    file: str
    text: str  # stands once in the file
    replacement: str
    tests: str  # of pytest: a file, or one test of it

    def path(self, root: Path) -> Path:
        return root / self.file if self.file.startswith("cli/") else root / "contrastkit" / self.file

    @property
    def outdated(self) -> bool:
        """Whether its text does not stand once in its file, or its test is not there."""
        file, _, test = self.tests.partition("::")
        definition = f"def {test.partition('[')[0]}(" if test else "def test_"
        source, tests = (path.read_text() if path.exists() else "" for path in (self.path(ROOT), ROOT / file))
        return source.count(self.text) != 1 or definition not in tests


BUGS = [
    # Bounds.
    Bug("bounds.py", "and math.isfinite(number)", "or number != number", "tests/cli/test_bounds.py::test_an_interval"),
    Bug("cli/options.py", "interval.check(flag, values[name], whole=whole)", "pass",
        "tests/cli/test_bounds.py::test_every_number_of_every_command_has_bounds"),
    Bug("checkpoint.py", "        require_stored(path)\n", "",
        "tests/training/test_damage.py::test_entries_that_are_larger_than_the_checkpoint_are_not_read"),
    # Fine-tuning.
    Bug("evaluate/supervised.py", "return share * own + (1 - share) * other", "return own",
        "tests/evaluate/test_supervised.py::test_the_loss_is_that_of_a_loop"),
    Bug("evaluate/supervised.py", "return F.cross_entropy(logits, label, label_smoothing=self.smoothing)",
        "return F.cross_entropy(logits, label)",
        "tests/evaluate/test_supervised.py::test_the_loss_is_that_of_a_loop"),
    Bug("evaluate/supervised.py", "(1 - share) * images.roll(-1, 0)", "(1 - share) * images.roll(1, 0)",
        "tests/evaluate/test_supervised.py::test_mixed_images_are_those_of_a_plain_loop"),
    Bug("evaluate/supervised.py", "loader.batches(state.step, steps)", "loader.batches(0, steps - state.step)",
        "tests/evaluate/test_supervised.py::test_a_training_that_is_stopped_goes_on_bit_for_bit"),
    Bug("evaluate/supervised.py", "if _is_frozen(part) or ", "if ",
        "tests/evaluate/test_supervised.py::test_parts_without_a_trained_parameter_stay_in_eval_mode"),
    Bug("evaluate/few_labels.py", 'f"{seed}\\n".encode() + identity', "identity",
        "tests/evaluate/test_few_labels.py::test_the_choice_is_that_of_a_loop"),
    Bug("evaluate/few_labels.py", "return [path.encode(", "return [str(source.paths.index(path)).encode(",
        "tests/evaluate/test_few_labels.py::test_it_does_not_depend_on_the_order_and_few_are_among_more"),
    Bug("evaluate/few_labels.py", "                of_unit[key], place = place % FOLDS, place + 1\n",
        "                of_unit[key] = place % FOLDS\n",
        "tests/evaluate/test_few_labels.py::test_each_image_is_held_out_once_and_every_class_in_each_fold"),
    Bug("parts/depth.py", "decay ** (layers + 1 - depth)", "decay ** (layers - depth)", "tests/parts/test_depth.py"),
    Bug("parts/depth.py", 'if name.startswith("blocks."):\n        return 1 + int', "if True:\n        return int",
        "tests/parts/test_depth.py::test_a_transformers_rates_are_those_of_the_paper"),
    Bug("evaluate/finetune_trial.py", "depth[name] >= first", "depth[name] > first",
        "tests/evaluate/test_finetuning.py::test_the_last_layers_are_trained"),
    Bug("evaluate/finetune_trial.py", "decay = p.ndim > 1 and name not in exempt", "decay = p.ndim > 1",
        "tests/evaluate/test_finetuning.py::test_maes_rates_and_decay"),
    Bug("evaluate/finetune_trial.py", "lr_scale=protocol.encoder_lr * rate", "lr_scale=rate",
        "tests/evaluate/test_finetuning.py::test_swavs_rates"),
    Bug("evaluate/finetune_trial.py", "nesterov=protocol.nesterov", "nesterov=False",
        "tests/evaluate/test_finetuning.py::test_a_training_is_that_of_a_plain_loop"),
    Bug("evaluate/finetuning.py", "return self.train.subset(rest), self.train.subset(held_out)",
        "return self.train.subset(rest), self.test",
        "tests/evaluate/test_finetuning.py::test_the_rate_is_chosen_on_training_images"),
    Bug("evaluate/finetune_trial.py", "answers[rows] = best[:, 0]", "answers[: len(rows)] = best[:, 0]",
        "tests/evaluate/test_finetuning.py::test_test_images_that_cannot_be_read_have_no_part"),
    Bug("evaluate/finetuning.py", "torch.stack([each.answers for each in finals])",
        "torch.stack([finals[0].answers for each in finals])",
        "tests/evaluate/test_finetuning.py::test_per_class_is_of_all_seeds"),
    Bug("evaluate/finetuning.py", "names = subject.class_names", "names = parts.class_names",
        "tests/evaluate/test_finetuning.py::test_a_class_without_chosen_images_keeps_its_output"),
    Bug("evaluate/journal.py", "            torch.set_rng_state(current.rng)\n", "",
        "tests/evaluate/test_journal.py::test_a_training_is_restored_with_the_generator"),
    Bug("evaluate/journal.py", "if other := sorted(", "if False and sorted(",
        "tests/evaluate/test_finetuning.py::test_an_unfinished_call_keeps_its_options"),
    Bug("evaluate/finetune_starts.py", 'layers=None, layer_decay=1.0, encoder_lr=1.0, batch_norm="train"', "",
        "tests/evaluate/test_finetuning.py::test_from_scratch_nothing_is_frozen"),
    # Where a run begins.
    Bug("parts/naming.py", 'Naming("MoCo", "encoder_q.")', 'Naming("MoCo", "encoder_k.")', f"{WEIGHTS}::{NETWORKS}"),
    Bug("parts/naming.py", '"4": "layer1", "5": "layer2"', '"5": "layer1", "4": "layer2"', f"{WEIGHTS}::{NETWORKS}"),
    Bug("parts/naming.py", "if len(taken) > len(found):", "if len(taken) >= len(found):", f"{WEIGHTS}::{NETWORKS}"),
    Bug("parts/weights.py", "state[name].shape != ours[name].shape]", "False]",
        f"{WEIGHTS}::test_shapes_that_differ_are_named"),
    Bug("parts/weights.py", "weights_only=True", "weights_only=False", f"{WEIGHTS}::test_no_code_of_a_file_is_run"),
    Bug("parts/weights.py", "prefix = ours.shape[1] - math.prod(grid)", "prefix = 0 * math.prod(grid)",
        f"{WEIGHTS}::test_positions_of_a_transformer_are_resampled"),
    Bug("methods/moco_v3.py", "def untrained_encoder(", "def build_encoder(",
        f"{START}::test_the_weights_of_a_transformer_replace_moco_v3s_own_start"),
    Bug("training/launch.py", "            session.save(0)\n", "            pass\n",
        f"{START}::test_a_resume_needs_the_weights_no_more"),
    Bug("run.py", "self._new and not self._advanced", 'self._new and not any(self.checkpoints.glob("*.pt"))',
        f"{START}::test_a_start_that_fails_leaves_nothing"),
    Bug("run.py", "        if rows := parent.metrics():\n", "        if rows := []:\n",
        f"{START}::test_an_extended_run_is_the_loop_under_the_longer_schedule"),
    Bug("training/plan.py", "self.recipe.epochs <= original.epochs", "self.recipe.epochs < original.epochs",
        f"{START}::test_what_an_extension_may_not_change"),
    Bug("training/launch.py", "step != plan.parent.step", "False",
        f"{START}::test_a_run_that_is_being_trained_is_not_extended"),
    Bug("options.py", "**({} if self.labelled else split)", "**split",
        f"{LABELLED}::test_the_run_is_trained_on_all_images_and_on_no_label"),
    Bug("data/dataset.py", "train=train, test=labelled.test, notices", "train=train, pretrain=train, notices",
        f"{LABELLED}::test_the_run_is_trained_on_all_images_and_on_no_label"),
    Bug("data/files.py", "(size[i], digest(source._start(i)))", "size[i]", f"{LABELLED}::test_equal_files_are_counted"),
    Bug("evaluate/subject.py", "labelled or options.data", "options.data",
        f"{LABELLED}::test_the_monitor_knn_and_probe_use_the_labelled_images"),
    Bug("evaluate/subject.py", "own and labelled is None and all(", "own and all(",
        f"{LABELLED}::test_knn_needs_the_images_of_the_training_no_more"),
    # The step.
    Bug("training/loop.py", "progress = step / session.steps", "progress = (step + 1) / session.steps",
        f"{LOOP}::test_each_step_reads_then_steps_then_writes"),
    Bug("training/loop.py", "progress = step / session.steps", "progress = step / end",
        f"{RUNS}::test_two_epochs_resume_two_epochs_are_four"),
    Bug("training/loop.py", "with session.autocast():", "if True:", f"{LOOP}::test_bfloat16_is_the_encoders"),
    Bug("training/loop.py", "            optim.apply_schedule(optimizer, progress, recipe.schedule_at(progress))\n", "",
        f"{LOOP}::test_the_rate_drops_at_the_milestones_by_gamma"),
    Bug("training/loop.py", "recipe.schedule_at(progress)", "recipe.schedule_at(0.0)",
        f"{LOOP}::test_a_rate_of_each_epoch_stays_throughout_it"),
    Bug("training/loop.py", "            optimizer.zero_grad(set_to_none=True)\n", "",
        f"{LOOP}::test_each_step_reads_then_steps_then_writes"),
    Bug("training/loop.py", "            optimizer.step()\n            optimizer.zero_grad(set_to_none=True)\n"
        "            method.after_step(batch, out, progress)  # writes\n",
        "            method.after_step(batch, out, progress)\n            optimizer.step()\n"
        "            optimizer.zero_grad(set_to_none=True)\n",
        f"{LOOP}::test_each_step_reads_then_steps_then_writes"),
    Bug("training/loop.py", "            method.after_step(batch, out, progress)  # writes\n", "",
        f"{LOOP}::test_each_step_reads_then_steps_then_writes"),
    Bug("training/loop.py", "session.loader.batches(start, end)", "session.loader.batches(0, end)",
        f"{RUNS}::test_two_epochs_resume_two_epochs_are_four"),
    Bug("training/loop.py", "    step = start\n", "    step = 0\n",
        f"{RUNS}::test_two_epochs_resume_two_epochs_are_four"),
    # The schedule.
    Bug("optim.py", "first + (base_lr - first) * progress / warmup", "base_lr * progress / warmup",
        f"{OPTIM}::test_a_warm_up_starts_at_first_and_meets_the_schedule"),
    Bug("optim.py", "math.floor(progress * epochs + 1e-6)", "math.floor(progress * epochs)",
        f"{OPTIM}::test_every_epochs_first_step_belongs_to_it"),
    Bug("optim.py", "(progress - warmup) / (1 - warmup)", "progress",
        f"{OPTIM}::test_warm_up_then_cosine_then_the_end"),
    Bug("optim.py", "return cosine(t, base_lr, final)", "return cosine(t, base_lr, 0.0)",
        f"{OPTIM}::test_warm_up_then_cosine_then_the_end"),
    Bug("optim.py", "sum(progress >= milestone", "sum(progress > milestone",
        f"{OPTIM}::test_mocos_steps_fall_on_the_published_epochs"),
    Bug("methods/base.py", "warmup=self.warmup_epochs / self.epochs", "warmup=self.warmup_epochs / 100",
        f"{LOOP}::test_warm_up_then_a_cosine_from_and_to_the_recipes_rates"),
    Bug("methods/base.py", "                first=self.first_lr,\n", "",
        f"{LOOP}::test_warm_up_then_a_cosine_from_and_to_the_recipes_rates"),
    Bug("methods/base.py", "                final=self.final_lr,\n", "",
        f"{LOOP}::test_warm_up_then_a_cosine_from_and_to_the_recipes_rates"),
    Bug("methods/base.py", "                milestones=self.milestones,\n", "",
        f"{LOOP}::test_the_rate_drops_at_the_milestones_by_gamma"),
    Bug("methods/base.py", "                gamma=self.gamma,\n", "",
        f"{LOOP}::test_the_rate_drops_at_the_milestones_by_gamma"),
    Bug("methods/base.py", "epochs=self.epochs if self.lr_per_epoch else None", "epochs=None",
        f"{LOOP}::test_a_rate_of_each_epoch_stays_throughout_it"),
    Bug("methods/base.py", "schedule=self.schedule", 'schedule="cosine"',
        f"{LOOP}::test_the_rate_drops_at_the_milestones_by_gamma"),
    Bug("methods/base.py", "cosine(progress, self.weight_decay, decay)", "cosine(progress, decay, self.weight_decay)",
        f"{LOOP}::test_weight_decay_stays_or_follows_its_cosine_in_the_groups_that_decay"),
    Bug("methods/base.py", "            clip_norm=self.clip_norm,\n", "",
        f"{LOOP}::test_the_gradient_is_clipped_to_one_norm_of_all_but_the_frozen"),
    # The optimizer.
    Bug("optim.py", 'now.weight_decay is not None and group["decay"]', "now.weight_decay is not None",
        f"{OPTIM}::test_a_scheduled_weight_decay_is_written_where_there_is_decay"),
    Bug("optim.py", 'progress < group["frozen_until"]', 'progress <= group["frozen_until"]',
        f"{OPTIM}::test_a_frozen_group_stays_bit_equal_then_moves"),
    Bug("optim.py", "                p.grad = None\n", "                p.grad.zero_()\n",
        f"{OPTIM}::test_a_frozen_group_stays_bit_equal_then_moves"),
    Bug("optim.py", '    for group in optimizer.param_groups:\n        if now.weight_decay',
        '    nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], now.clip_norm or 1e9)\n'
        '    for group in optimizer.param_groups:\n        if now.weight_decay',
        f"{OPTIM}::test_a_frozen_group_has_no_share_in_the_clipped_norm"),
    Bug("optim.py", "nn.utils.clip_grad_norm_([p], group", 'nn.utils.clip_grad_norm_(group["params"], group',
        f"{OPTIM}::test_clipping_per_tensor_and_globally"),
    Bug("optim.py", 'now.lr * group["lr_scale"] if', "now.lr if", f"{OPTIM}::test_rates_of_groups"),
    Bug("optim.py", "return torch.optim.SGD(rows, lr=lr, momentum=momentum, ",
        "return torch.optim.SGD(rows, lr=lr, momentum=0.9, ", f"{OPTIM}::test_sgd_takes_the_momentum_it_is_given"),
    Bug("optim.py", "trust=trust, trust_clip=trust_clip", "trust_clip=trust_clip",
        f"{OPTIM}::test_lars_takes_the_momentum_and_the_trust_it_is_given"),
    Bug("optim.py", "q = (q / group", "q = (q * group",
        f"{OPTIM}::test_a_clipped_trust_takes_the_shorter_of_two_steps"),
    Bug("methods/base.py", "            momentum=self.momentum,\n", "",
        f"{LOOP}::test_the_optimizer_gets_the_recipes_numbers"),
    Bug("methods/base.py", "            trust=self.trust,\n", "",
        f"{LOOP}::test_the_optimizer_gets_the_recipes_numbers"),
    Bug("methods/base.py", "            trust_clip=self.trust_clip,\n", "",
        f"{LOOP}::test_the_optimizer_gets_the_recipes_numbers"),
    Bug("methods/base.py", "            lr_inside_momentum=self.lr_inside_momentum,\n", "",
        f"{LOOP}::test_the_optimizer_gets_the_recipes_numbers"),
    Bug("methods/base.py", "            weight_decay=self.weight_decay,\n", "            weight_decay=1e-4,\n",
        f"{LOOP}::test_weight_decay_stays_or_follows_its_cosine_in_the_groups_that_decay"),
    # What surrounds the steps.
    Bug("training/session.py", "self.recipe.schedule_at((step - 1) / self.steps).lr\n        row",
        "self.recipe.schedule_at(step / self.steps).lr\n        row",
        f"{LOOP}::test_metrics_are_the_means_of_the_epoch_and_the_rate_of_its_last_step"),
    Bug("training/session.py", "last=step == self.steps", "last=False",
        f"{LOOP}::test_metrics_are_the_means_of_the_epoch_and_the_rate_of_its_last_step"),
    Bug("training/session.py", "            self.meter.unsaved = 0.0\n", "",
        f"{LOOP}::test_the_clock_runs_while_training_and_waiting_alone"),
    Bug("training/session.py", "with self.meter.excluded():\n                dist", "if True:\n                dist",
        f"{LOOP}::test_the_clock_runs_while_training_and_waiting_alone"),
    Bug("training/session.py", "                self.reporter.log(self.monitor.warning)\n", "                pass\n",
        f"{LOOP}::test_a_diagnosis_is_reported"),
    Bug("training/session.py", "epoch % self.save_every == 0", "(epoch - 1) % self.save_every == 0",
        f"{RUNS}::test_checkpoints_are_kept_as_asked"),
    Bug("training/session.py", "        self.run.rewind(step)\n", "",
        f"{RUNS}::test_what_was_written_after_the_last_checkpoint_is_dropped_on_resume"),
    Bug("training/session.py", "        self.monitor.resume(self.run.metrics())\n", "",
        f"{LOOP}::test_a_resumed_run_knows_its_evaluations"),
    Bug("training/session.py", "        elif self.stopped or overdue:", "        elif overdue:",
        f"{RUNS}::test_sigterm_in_mid_epoch_with_two_workers_loses_nothing"),
    Bug("training/session.py", "first = step - self.meter.unread + 1", "first = step - self.meter.unread",
        f"{LOOP}::test_the_first_step_whose_loss_is_not_finite_is_named"),
    Bug("training/progress.py", "self.sums, self.count = {}, 0\n        return", "self.count = 0\n        return",
        f"{LOOP}::test_metrics_are_the_means_of_the_epoch_and_the_rate_of_its_last_step"),
    Bug("training/progress.py", "self.loss = row[0]", "self.loss = values.mean().item()",
        f"{LOOP}::test_progress_is_reported_every_ten_steps_and_at_the_end_of_epochs"),
    Bug("training/progress.py", "self._waited += time.perf_counter() - started", "self._waited += 0.0",
        f"{LOOP}::test_the_clock_runs_while_training_and_waiting_alone"),
    # A resume.
    Bug("training/state.py", "        optimizer.load_state_dict(vars(state.optimizer))\n", "",
        f"{RUNS}::test_two_epochs_resume_two_epochs_are_four"),
    Bug("training/state.py", "    meter.restore(state.meter)\n", "",
        f"{RUNS}::test_sigterm_in_mid_epoch_with_two_workers_loses_nothing"),
    Bug("training/state.py", "    torch.set_rng_state(state.rng)\n", "",
        f"{LOOP}::test_a_resumed_run_draws_what_it_would_have_drawn"),
    Bug("training/plan.py", "if what := self.data.pretrain.changed_since(record.data.fingerprint):", "if False:",
        f"{RUNS}::test_other_data_are_refused_on_resume"),
    Bug("training/plan.py", "if option not in MAY_CHANGE and value != options[option]:", "if False:",
        f"{RUNS}::test_a_run_keeps_what_its_numbers_depend_on"),
    Bug("training/launch.py", "session.run.write_record(replace(plan.record, options=plan.options))\n", "pass\n",
        f"{RUNS}::test_a_run_keeps_what_its_numbers_depend_on"),
    # The hand-over from options and recipe to loader, method, monitor and session.
    Bug("training/launch.py", "        seed=options.seed,\n        workers=options.workers,\n        rank",
        "        seed=0,\n        workers=options.workers,\n        rank",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "        max_bad=options.max_bad,\n", "",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "        workers=options.workers,\n        rank", "        rank",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "        workers=options.workers,\n    )", "    )",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "        every=options.monitor_every,\n", "        every=1,\n",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "chance_loss=method.chance_loss", "chance_loss=None",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("methods/base.py", "images=len(source)", "images=1",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "seed=options.seed, encoder=encoder", "encoder=encoder",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "torch.manual_seed(options.seed)", "torch.manual_seed(0)",
        f"{LOOP}::test_the_seed_decides_on_weights_order_and_views"),
    Bug("training/launch.py", "        if options.compile:\n", "        if False:\n",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("training/launch.py", "end = session.steps if stop_after is None else", "end = session.steps if True else",
        f"{RUNS}::test_checkpoints_are_kept_as_asked"),
    Bug("training/launch.py", "save_every=plan.options.save_every", "save_every=0",
        f"{RUNS}::test_checkpoints_are_kept_as_asked"),
    Bug("training/launch.py", "        run.note_environment()\n",
        "        if plan.record is None:\n            run.note_environment()\n",
        f"{LOOP}::test_a_resumed_run_knows_its_evaluations"),
    Bug("training/launch.py", "    if finished:\n        dist", "    if True:\n        dist",
        f"{RUNS}::test_load_before_the_end_gives_the_last_checkpoints_encoder"),
    Bug("options.py", '"val_fraction": self.val_fraction, ', "",
        f"{LOOP}::test_every_epoch_shows_each_image_once_in_an_order_of_its_own"),
    Bug("schema.py", "return items if origin is list else tuple(items)", "return items",
        f"{LOOP}::test_a_run_records_what_loading_it_takes"),
    # What is to be trained, from what a user gives.
    Bug("training/plan.py", 'if "workers" not in given:', "if False:",
        f"{PLAN}::test_the_data_choose_the_workers_unless_they_are_given"),
    Bug("training/plan.py", "        encoder=encoder,\n", "        encoder=None,\n",
        f"{CLI}::test_every_number_is_an_option"),
    Bug("training/plan.py", "orientation_matters=source.orientation_matters", "orientation_matters=False",
        f"{CLI}::test_without_options_the_embedded_digits_and_their_recipe"),
    Bug("training/plan.py", "        row=row,\n    )", "    )",
        f"{CLI}::test_the_row_can_be_forced"),
    Bug("methods/rows.py", "size > LOW and", "size > SMALL and",
        "tests/methods/test_recipes.py::test_the_images_the_encoder_and_the_machine_choose_the_row"),
    Bug("methods/moco.py", "if keys > self.images:", "if keys > 2 * self.images:",
        "tests/methods/test_moco.py::test_a_queue_of_more_keys_than_images_is_said"),
    Bug("training/memory.py", "* dist.world_size()", "", "tests/training/test_memory.py::test_gpus_count_together"),
    Bug("training/outlook.py", "statistics.median(times)", "statistics.fmean(times)",
        "tests/training/test_outlook.py::test_the_pace_is_the_median_of_the_first_steps_but_one"),
    Bug("training/verdict.py", '"rose" if interval[0] > 0', '"rose" if last > first',
        "tests/training/test_verdict.py::test_knn_changes_by_more_than_noise_or_stays_level"),
    Bug("intervals.py", "math.hypot(p - low_p, high_q - q)", "math.hypot(p - low_p, q - low_q)",
        "tests/training/test_verdict.py::test_newcombes_interval_is_that_of_statsmodels"),
    Bug("training/plan.py", "    recipe = change(recipes[name])\n", "    recipe = recipes[name]\n",
        f"{CLI}::test_every_number_is_an_option"),
    Bug("training/plan.py", "change(record.recipe_of(type(recipes[record.name]), run / RECIPE))",
        "change(recipes[record.name])",
        f"{CLI}::test_resume_needs_nothing_else"),
    Bug("training/plan.py", '**{**given, "data_dir": data_dir})', "data_dir=data_dir)",
        f"{CLI}::test_resume_may_change_where_and_how_a_run_is_watched"),
    Bug("training/plan.py", "    while folder.exists():", "    if folder.exists():",
        f"{CLI}::test_without_out_a_run_takes_a_folder_that_is_free"),
    Bug("training/plan.py", "return str(path.resolve())", "return data",
        f"{CLI}::test_a_folder_does_not_stand_in_for_a_named_set"),
    Bug("training/plan.py", "itertools.cycle(values)", "itertools.cycle(values[:1])",
        f"{CLI}::test_every_number_is_an_option"),
    Bug("training/plan.py", "itertools.cycle(values)", "values", f"{CLI}::test_every_number_is_an_option"),
    Bug("training/plan.py", 'numbers.get("views", recipe.views)', "recipe.views",
        f"{CLI}::test_every_number_is_an_option"),
    Bug("cli/recipe_options.py", "_parsed(part, name, float)", "_parsed(part, name, str)",
        f"{CLI}::test_every_number_is_an_option"),
    Bug("cli/train.py", "stop_after=options.stop_after, ", "", f"{CLI}::test_every_number_is_an_option"),
    Bug("training/plan.py", 'given.get("data_dir"), record.options.data_dir)', 'given.get("data_dir"))',
        f"{RUNS}::test_a_run_goes_on_where_the_data_have_moved_to_with_other_workers"),
    Bug("training/plan.py", "        self.recipe.check(self.data.pretrain)\n", "",
        f"{CLI}::test_what_a_method_cannot_learn_from_is_one_line"),
    Bug("data/openers.py", "data_directory(data_dir, recorded_dir)", "data_dir",
        "tests/data/test_named.py::test_a_torchvision_set_of_files"),
    # How files are read.
    Bug("options.py", ', "test_part": self.test_part', "",
        f"{PARTS}::test_the_options_of_a_run_reach_its_data"),
    Bug("options.py", ', "background")', ")",
        f"{PARTS}::test_the_options_of_a_run_reach_its_data"),
    Bug("data/parts.py", '" ", name).lower()', '" ", name)', f"{PARTS}::test_the_parts_are_known_by_the_usual_words"),
    Bug("data/folders.py", "(not files.has_class(train.classes), not files.listing.paths)", "not files.listing.paths",
        f"{PARTS}::test_a_part_with_classes_is_tested_on"),
    Bug("data/folders.py", "[None if top in unlabelled else top for top in tops]", "tops",
        f"{PARTS}::test_unlabelled_images_among_the_classes_are_no_class"),
    Bug("data/walk.py", "for folder in root.resolve().parents}", "for folder in ()}",
        "tests/data/test_walk.py::test_a_link_out_of_the_training_part_does_not_bring_in_the_test_part"),
    Bug("data/labels.py", "number = {-1: -1} | {label: i for", "number = {-1: -1} | {label: label for",
        "tests/data/test_npz.py::test_labels_are_numbered_and_keep_their_names"),
    Bug("npz.py", "if total > (free := available_memory()):", "if (free := 0):",
        "tests/data/test_npz.py::test_arrays_that_do_not_fit_in_memory_are_not_read"),
    Bug("data/encoded.py", "permutation(0, 0, len(self.paths))[:PEEK].sort()[0]",
        "torch.arange(0, len(self.paths), len(self.paths) // PEEK)",
        "tests/data/test_files.py::test_colour_is_found_wherever_it_lies"),
    Bug("data/encoded.py", "like.span if isinstance(like, EncodedSource) else None", "None",
        "tests/data/test_files.py::test_the_test_part_is_stretched_as_the_training_part"),
    Bug("data/encoded.py", "except (MemoryError, UserError):", "except UserError:",
        "tests/data/test_files.py::test_want_of_memory_is_no_damaged_file"),
    Bug("data/shards.py", "-1 - epoch, len(self.tars.paths)", "-1, len(self.tars.paths)", SHARDS),
    Bug("data/shards.py", "// WINDOW\n", "// 1\n", SHARDS),
    Bug("data/shards.py", "self.shard[chosen], self.offset[chosen]", "self.shard[chosen], self.offset",
        f"{SHARDS}::test_parts_and_a_held_out_part"),
    Bug("data/shards.py", "if self.crc is not None and zlib.crc32(data) != self.crc[i]:", "if False:",
        f"{SHARDS}::test_bytes_that_have_changed_are_not_taken_for_the_image"),
    Bug("data/extents.py", "offset, size = offset + len(part), size - len(part)", "break",
        f"{SHARDS}::test_a_read_that_gets_a_part_goes_on"),
    Bug("data/shards.py", "places[index.labels]", "index.labels",
        f"{TARS}::test_labels_of_parts_are_matched_by_their_texts"),
    Bug("data/store.py", "key = os.getpid(), self._url", "key = 0, self._url",
        f"{REMOTE}::test_a_process_has_read_before_it_forks_and_reads_on"),
    Bug("data/store.py", "if isinstance(part, Exception) and not isinstance(part, absent):", "if False:",
        f"{REMOTE}::test_a_fault_that_stays_ends_the_run"),
    Bug("data/store.py", "for pause in PAUSES:\n            left", "for pause in PAUSES[:1]:\n            left",
        f"{REMOTE}::test_a_fault_that_passes_changes_nothing"),
    Bug("data/store.py", "if isinstance(part, bytes) and len(part) > span.size:", "if False:",
        f"{REMOTE}::test_answers_that_are_none"),
    Bug("data/store.py", '{"timeout": seconds, "batch_size": PARALLEL}', '{"batch_size": PARALLEL}',
        f"{REMOTE}::test_answers_that_are_none"),
    Bug("data/store.py", "if isinstance(status := getattr(error", "if not isinstance(status := getattr(error",
        f"{REMOTE}::test_the_key_of_a_redirection_is_not_told"),
    Bug("data/openers.py", "        require_public(request.data)\n", "        pass\n",
        f"{REMOTE}::test_a_url_with_a_secret_is_refused_without_it"),
    Bug("data/remote.py", "start = extent.offset - span.start", "start = 0",
        f"{REMOTE}::test_a_url_is_the_folder_bit_for_bit"),
    Bug("data/remote.py", "if missing := set(extents) - self._ahead.keys():", "if missing := set(extents):",
        f"{REMOTE}::test_a_batch_is_read_at_once_and_only_once"),
    Bug("data/encoded.py", "self._read_ahead(positions := index.tolist())", "positions = index.tolist()",
        f"{REMOTE}::test_a_batch_is_read_at_once_and_only_once"),
    Bug("training/plan.py", " or is_url(data)", "", f"{REMOTE}::test_a_url_with_an_equals_sign_is_none_of_sensors"),
    Bug("data/tars.py", "    _require_end(tar, file, end)\n", "", f"{TARS}::test_damaged_tars"),
    Bug("data/tars.py", " and not member.issparse()", "", f"{TARS}::test_what_gnu_tar_writes"),
    Bug("data/index.py", "elif look.start != start:", "elif False:",
        f"{TARS}::test_a_stale_index_is_refused"),
    Bug("data/index.py", "self.size <= self.sizes[self.shard] - self.offset", "self.size <= self.sizes[self.shard]",
        f"{TARS}::test_an_index_that_is_none"),
    Bug("data/pack.py", "STORAGE = -1", "STORAGE = 0",
        f"{SHARDS}::test_every_epoch_has_each_image_once_and_few_shards_at_a_time"),
    Bug("data/pack.py", "ImageOps.exif_transpose(image)", "image",
        f"{SHARDS}::test_shards_hold_the_images_of_their_folder_bit_for_bit"),
    Bug("data/pixels.py", "*smaller)\n    except", "*smaller, strict=False)\n    except",
        "tests/data/test_jpeg.py::test_a_scan_that_ends_early_is_no_gray_picture"),
    Bug("data/pixels.py", ' and (image.mode, mode) != ("RGB", "L")', "", "tests/data/test_jpeg.py::test_random_jpegs"),
    Bug("data/pixels.py", "8: lambda pixels: pixels.swapaxes(0, 1)[::-1],", "8: lambda pixels: pixels.swapaxes(0, 1),",
        "tests/data/test_jpeg.py::test_orientation"),
    Bug("evaluate/subject.py", 'pixels = ("stretch", "background")', "pixels = ()",
        "tests/evaluate/test_subject.py::test_a_run_is_evaluated_on_images_read_as_it_read_them"),
    Bug("lock.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        f"{FOLDER}::test_a_run_that_is_trained_is_not_resumed_beside"),
    Bug("lock.py", "os.register_at_fork(after_in_child=_close_in_child)", "",
        f"{FOLDER}::test_a_killed_process_leaves_no_lock_even_if_its_workers_live_on"),
    Bug("lock.py", "    with contextlib.suppress(OSError):  # on a full disk", "    with contextlib.nullcontext():  #",
        f"{FOLDER}::test_a_full_disk_at_the_start_leaves_no_folder"),
    Bug("run.py", "                run._release()\n", "",
        f"{FOLDER}::test_a_resumption_that_fails_leaves_the_run_free"),
    Bug("data/workers.py", "            _share(result)\n", "",
        "tests/data/test_workers.py::test_a_result_that_cannot_be_sent_is_an_error"),
    Bug("errors.py", '"gloo/transport" in text', '"closed by peer" in text',
        "tests/test_dist.py::test_the_end_of_another_process_is_one_line"),
    Bug("checkpoint.py", "        _link(temporary, target)\n", "        os.replace(temporary, target)\n",
        f"{FOLDER}::test_a_file_that_must_be_new_is_never_replaced"),
    Bug("run.py", "            checkpoint.save(self.checkpoints / keep, state)\n",
        "            checkpoint.save(self.last, state)\n            checkpoint.save(self.checkpoints / keep, state)\n",
        f"{FOLDER}::test_a_copy_to_keep_survives_a_kill_before_the_last_checkpoint"),
    Bug("run.py", "                if file.name not in self._before:", "                if True:",
        f"{FOLDER}::test_a_start_that_fails_leaves_no_folder"),
    Bug("training/state.py", "        _require_alike(state.optimizer, optimizer)\n", "        pass\n",
        "tests/training/test_damage.py::test_last_pt"),
    Bug("board.py", "        if self._failed:\n            return None\n", "",
        f"{FOLDER}::test_the_training_goes_on_without_an_event_file"),
    Bug("run.py", "if number < len(lines):", "if False:",
        "tests/test_run.py::test_only_a_torn_last_line_is_passed_over"),
    Bug("methods/cpc_audio.py", " = (1, 1)", " = (1, None)",
        "tests/methods/test_cpc_audio.py::test_what_does_not_fit_is_said_in_one_line"),
    # Commands that hand their options over.
    Bug("cli/knn.py", "k=k, T=temperature", "k=k", f"{EVALUATION}[knn --T=0.001]"),
    Bug("cli/knn.py", "k=k, T=temperature", "T=temperature", f"{EVALUATION}[knn --k=3]"),
    Bug("cli/knn.py", "subject.open(baselines=baselines)", "subject.open()", f"{EVALUATION}[knn --baselines]"),
    Bug("cli/probe.py", "seed=subject.seed", "seed=0", f"{EVALUATION}[probe --epochs=2 --seeds=1 --seed=6]"),
    Bug("cli/probe.py", "lr=lr, ", "", f"{EVALUATION}[probe --protocol=moco --epochs=1 --lr=0.1 --lr=0.01]"),
    Bug("cli/embed.py", "split=split, ", "", f"{EVALUATION}[embed --split=test]"),
    Bug("cli/export.py", "out=out, size=size", "out=out", "tests/cli/test_export.py"),
    # Exports.
    Bug("checkpoint.py", 'b" " * (-len(header) % 8)', 'b" " * 7', "tests/test_checkpoint.py"),
    Bug("checkpoint.py", "dict(metadata)", "dict(sorted(metadata.items()))", "tests/test_checkpoint.py"),
    Bug("export/description.py", "float(str(value))", "float(value)", EXPORT),
    Bug("export/trained.py", "set_image_size(encoder, size)", "pass", EXPORT),
    Bug("export/trained.py", "if finished else run.load().step", "", f"{EXPORT}::test_an_unfinished_run_says_its_step"),
    Bug("export/networks.py", '            "encoder.maxpool = nn.Identity()",\n', "", EXPORT),
    Bug("export/networks.py", 'f"fc.{3 * layer', 'f"fc.{2 * layer', EXPORT),
    Bug("export/exporting.py", "TOLERANCE = 1e-4", "TOLERANCE = 1e4", f"{EXPORT}::test_other_features_are_refused"),
    Bug("export/programs.py", '({0: Dim("N")},)', "None", EXPORT),
    Bug("export/exporting.py", "repr(out.name)", "repr(str(out))", "tests/export/test_card.py"),
    Bug("cli/options.py", "**vars(self), **how", "**vars(self) | {'batch': 512}, **how", f"{SUBJECT}[knn]"),
    Bug("cli/options.py", "**vars(self), **how", "**vars(self) | {'seed': 0}, **how", f"{SUBJECT}[retrieve]"),
    Bug("cli/ablate.py", '"lr": lr}', '"lr": None}', ABLATE),
    Bug("cli/ablate.py", '"monitor_every": monitor_every', '"monitor_every": 1', ABLATE),
    Bug("cli/ablate.py", '"seed": seed', '"seed": 0', ABLATE),
    Bug("cli/ablate.py", "row=recipe)", "row=None)", ABLATE),
    Bug("training/seen.py", "draws=draws, seed=self.seed", "draws=draws, seed=0",
        "tests/training/test_seen.py::test_each_seed_has_draws_of_its_own"),
    Bug("training/seen.py", "draws=draws", "draws=4", VIEWS),
    Bug("cli/bench_input.py", "images=images, size=size", "images=images", "tests/cli/test_bench_input.py"),
    Bug("bench/input.py", "len(self.source) / median", "1 / median", "tests/cli/test_bench_input.py"),
    Bug("cli/bench_kernels.py", "dtype=dtype, preset", 'dtype="float32", preset', BENCH),
    Bug("cli/causal/weight.py", " scale=scale,", "", f"{CAUSAL}[weight---by=ipw---scale=raw]"),
    Bug("causal/matches.py", " ties=ties,", "", f"{CAUSAL}[match---covariates=c --metric=euclidean---no-ties]"),
    Bug("causal/matches.py", " order=order,", "", f"{CAUSAL}[match---no-replacement---order=smallest]"),
    Bug("cli/causal/propensity.py", ", folds=folds", "", f"{CAUSAL}[propensity----folds=3]"),
    Bug("cli/stable/reweight.py", ", seed=seed", "", f"{STABLE}[reweight----seed=1]"),
    # Evaluation.
    Bug("evaluate/neighbours.py", "((s - s[:, :1]) / T).exp()", "(s - s[:, :1]).exp()",
        "tests/evaluate/test_neighbours.py::test_against_a_loop"),
    Bug("evaluate/accuracy.py", "if n_classes > 5 else None", "if n_classes >= 5 else None",
        "tests/evaluate/test_subject.py::test_top5_of_five_classes_is_none"),
    Bug("evaluate/confusion.py", "(y.cpu() * C + answers)", "(answers * C + y.cpu())",
        "tests/evaluate/test_confusion.py::test_against_a_loop"),
    Bug("evaluate/confusion.py", "wilson(top1, n)", "wilson(top1, n * len(answers))",
        "tests/evaluate/test_confusion.py::test_against_a_loop"),
    Bug("evaluate/knn_report.py", "_path(train_part, trained[j])", "_path(train_part, j)",
        "tests/evaluate/test_knn_report.py::test_positions_and_paths_are_those_of_the_files"),
    Bug("evaluate/knn_report.py", "0 < n < k", "0 < n <= k",
        "tests/evaluate/test_knn_report.py::test_k_above_what_a_class_holds_is_told"),
    Bug("figures.py", "        matplotlib.rcdefaults()\n", "",
        "tests/test_figures.py::test_a_chart_depends_on_nothing_but_its_call"),
    Bug("figures.py", "(RIGHT, \"-\") if right else", "(RIGHT, \"-\") if not right else",
        "tests/test_figures.py::test_frames_say_right_and_wrong"),
    Bug("curves.py", "[metric.factor * value if", "[value if", "tests/test_curves.py::test_values_units_and_chance"),
    Bug("training/seen.py", "options.seed if seed is None else seed, trained", "seed or 0, trained",
        "tests/training/test_seen.py::test_the_seed_is_the_runs"),
    Bug("evaluate/linear.py", "if n < FEW:", "if n > FEW:",
        "tests/evaluate/test_linear.py::test_of_few_images_each_is_held_out_once"),
    Bug("evaluate/linear.py", "[(len(rates) - 1) // 2]", "[0]",
        "tests/evaluate/test_linear.py::test_one_image_a_class_leaves_the_middle_rate_unchecked"),
    Bug("evaluate/linear.py", "return min(rate for", "return max(rate for",
        "tests/evaluate/test_linear.py::test_the_best_rate_is_the_smallest_of_equally_good_ones"),
    Bug("evaluate/subject.py", '"seed": options.seed}', '"seed": seed}',
        "tests/evaluate/test_subject.py::test_a_run_brings_its_data_its_split_and_its_size"),
    Bug("evaluate/subject.py", "batch=batch, workers=workers, max_bad", "workers=workers, max_bad",
        "tests/evaluate/test_subject.py::test_how_images_are_encoded_is_kept"),
    Bug("evaluate/subject.py", "reports=path if own else None", "reports=path",
        "tests/cli/test_knn.py::test_only_its_own_set_is_reported_in_the_run"),
    Bug("evaluate/retrieval.py", "replace(subject, encoders={name: online.encoder})", "subject",
        "tests/cli/test_retrieve.py::test_encoder_and_head_are_of_one_checkpoint"),
    Bug("evaluate/subject.py", "if split else ()) or (", "if False else ()) or (",
        "tests/evaluate/test_subject.py::test_the_evaluations_that_apply"),
    Bug("evaluate/retrieval.py", "(~(s < s[", "((s > s[",
        "tests/evaluate/test_retrieval.py::test_lengths_do_not_matter_and_a_collapsed_encoder_finds_nothing"),
    # Views, draws, the monitor.
    Bug("augment/draw.py", "down * (h0[:, 0] - h + 1)", "down * (h0[:, 0] - h)",
        "tests/augment/test_draw.py::test_crops_reach_every_edge_of_the_image"),
    Bug("augment/draw.py", "jitter, order, bright, contrast,", "order, jitter, bright, contrast,",
        "tests/augment/test_draw.py::test_draws_stay_what_they_are"),
    Bug("augment/draw.py", "SLOTS = 18", "SLOTS = 19", "tests/augment/test_draw.py"),
    Bug("augment/draw.py", "tensor.double().reshape", "tensor.float().reshape",
        "tests/data/test_making.py::test_a_table_holds_every_draw_exactly"),
    Bug("augment/shrink.py", '"amin")', '"amax")',
        "tests/augment/test_shrink.py::test_the_smallest_crop_of_an_image_decides_among_all_its_views"),
    Bug("augment/shrink.py", "corners + k // 2", "corners",
        "tests/augment/test_shrink.py::test_the_edges_of_a_crop_are_rounded_to_pixels_of_the_smaller_image"),
    Bug("data/making.py", "used = factor.where((sizes_of(images) != sizes).any(1), 1)", "used = factor",
        "tests/data/test_scaled.py::test_draws_are_those_for_whole_images"),
    Bug("data/pixels.py", "return image.size if turned else", "return", "tests/data/test_scaled.py"),
    Bug("data/encoded.py", "image = self._pixels(image, factor)", "image = self._decode(image)",
        "tests/data/test_scaled.py::test_sizes_of_what_is_decoded"),
    Bug("training/launch.py", "        scaled=options.scaled_decoding,\n", "",
        f"{LOOP}::test_each_option_reaches_what_it_is_for"),
    Bug("record.py", "SINCE_4 if written <= 3 else {}", "{}",
        "tests/training/test_damage.py::test_the_format_has_a_number_and_a_file_without_one_has_the_first"),
    Bug("data/making.py", "image=index[params.image]", "image=params.image",
        "tests/data/test_making.py::test_of_images_that_lie_on_the_device_only_draws_travel"),
    Bug("data/making.py", "self._draws(sizes_of(images), epoch, index)", "self._draws(sizes_of(images), epoch, actual)",
        "tests/data/test_making.py::test_stand_ins_are_the_same_and_counted"),
    Bug("data/making.py", "[[number] for number, _ in run]", "[[number] for number, _ in enumerate(run)]",
        "tests/data/test_making.py::test_equal_views_are_made_together"),
    Bug("data/loader.py", "if len(images.pixels) > room:", "if len(images.pixels) > 2 * room:",
        "tests/data/test_making.py::test_images_lie_on_the_device_if_they_fit_and_views_are_made_there"),
    Bug("training/launch.py", "*loader.notices, ", "",
        f"{LOOP}::test_a_run_says_where_its_images_lie"),
    Bug("training/memory.py", "free // 2 if needed is None", "0 if needed is None",
        "tests/training/test_memory.py::test_images_may_take_half_of_what_a_step_leaves"),
    Bug("augment/apply.py", "(1, w * channels, channels)", "(1, w, channels)",
        "tests/augment/test_apply.py::test_a_large_image_does_not_depend_on_its_batch_either"),
    Bug("augment/apply.py", "int(view.blur_span * view.size) // 2", "int(view.blur_span * view.size)",
        "tests/augment/test_apply.py::test_blur"),
    Bug("augment/apply.py", "        start += len(part)\n", "",
        "tests/augment/test_apply.py::test_crop_resize_and_flip"),
    Bug("ops/augment.py", "view.flip(-1)", "view.flip(-2)", f"{AUGMENT}[reference-3-16-planes]"),
    Bug("ops/augment.py", ' "places": (torch.int64, ("n", 6)),', "", f"{OPS}[reference-augment]"),
    Bug("ops/augment.py", "            if call.gray_first:", "            if not call.gray_first:",
        f"{AUGMENT}[reference-3-7-planes]"),
    Bug("ops/augment_colour.py", "mean.sum(1) / x.shape[1]", "mean[:, 0]", f"{AUGMENT}[reference-2-16-planes]"),
    Bug("ops/augment.py", "low[:, :, 0], high[:, :, -1] = 0, 0", "low[:, :, 0] = 0",
        f"{AUGMENT}[reference-3-16-planes]"),
    Bug("ops/augment.py", ".round() if call.dtype", ".floor() if call.dtype",
        "tests/ops/test_augment.py::test_results_in_other_dtypes_and_layouts[reference-3-16-False]"),
    Bug("ops/augment.py", " & (top <= h0 - h)", "",
        "tests/ops/test_augment.py::test_rows_that_name_what_is_not_there_are_refused[reference-below it]"),
    Bug("ops/augment.py", 'padding_mode="zeros"', 'padding_mode="border"',
        "tests/ops/test_augment.py::test_poses_are_those_of_the_loop[reference]"),
    Bug("ops/augment.py", "matrix[:, :, -1] += high.sum(2)", "matrix[:, :, -1] += low.sum(2)",
        f"{CHOICES}[reference-3-18-bicubic-True-repeated]"),
    Bug("ops/augment.py", "near, far = (1.5 * x - 2.5)", "near, far = (1.25 * x - 2.25)",
        f"{CHOICES}[reference-3-18-bicubic-False-zero]"),
    Bug("ops/augment.py", "return x.clamp_(0, 1) if call", "return x if call",
        f"{CHOICES}[reference-3-18-bicubic-True-zero]"),
    Bug("ops/augment_colour.py", "(1 - c) * mean[:, :, None, None]", "(1 - c) * mean[:, :1, None, None]",
        f"{CHOICES}[reference-3-18-bilinear-True-mirrored]"),
    Bug("ops/augment_colour.py", "torch.minimum(s.clamp(min=0), top / span.clamp(min=1e-12))", "s.clamp(min=0)",
        f"{CHOICES}[reference-3-18-bilinear-True-mirrored]"),
    Bug("augment/draw.py", "(2 * bright - 1) * view.brightness if adds", "bright * view.brightness if adds",
        "tests/augment/test_apply.py::test_tensorflows_jitter"),
    Bug("augment/apply.py", '"antialias": view.antialias,', '"antialias": True,',
        "tests/augment/test_apply.py::test_bicubic_of_tensorflow"),
    Bug("record.py", "if written <= 2:", "if written <= 1:",
        "tests/training/test_training.py::test_an_older_run_of_a_papers_row_goes_on_with_the_views_it_began_with"),
    Bug("augment/rows.py", '"simclr": (replace(_SIMCLR, **_TENSORFLOW),) * 2', '"simclr": (_SIMCLR,) * 2',
        "tests/augment/test_rows.py::test_rows_have_the_operations_of_the_official_code"),
    Bug("monitor.py", "views[min(1, len(views) - 1)]", "views[0]",
        "tests/test_monitor.py::test_it_sees_the_first_two_views"),
    Bug("monitor.py", "for view, outputs in zip(batch.views, z, strict=True):",
        "for view, outputs in zip(batch.views[:1] * 2, z, strict=True):",
        f"{LOOP}::test_the_monitor_sees_two_different_views_of_the_data_that_are_trained_on"),
    # Several processes.
    Bug("parts/dictionary.py", "dist.all_reduce_mean(lse.exp().mean(0))", "lse.exp().mean(0)",
        "tests/parts/test_dictionary.py::test_z_is_of_all_processes"),
    Bug("training/launch.py", "        rank=dist.rank(),\n", "        rank=0,\n",
        f"{RUNS}::test_two_processes_train_resume_and_agree_with_one"),
    Bug("training/launch.py", "        dist.average_batch_norm(session.method)\n", "",
        f"{RUNS}::test_two_processes_write_the_encoder_with_the_statistics_of_both"),
    # Causal studies.
    Bug("causal/boosting.py", "if gain.sum() > SURE * np.sqrt(gain @ gain):", "if more.any():",
        "tests/causal/test_learners.py::test_trees_that_may_help_by_chance_are_left_out"),
    Bug("causal/boosting.py", "> max(use[features.shape[1] :])", ">= 0",
        "tests/causal/test_learners.py::test_trees_see_the_columns_that_they_use"),
    Bug("causal/weights.py", 'if by in ("overlap", "global") and', 'if by == "overlap" and',
        "tests/causal/test_choices.py::test_an_option_that_does_not_apply_is_refused"),
    Bug("causal/weights.py", 'by is not None or trim != 0 or scale', 'by is not None or scale',
        "tests/causal/test_choices.py::test_an_option_that_does_not_apply_is_refused"),
    Bug("causal/estimate/weighted.py", "self.weighting_.fit(X, t)", "self.weighting_.fit(X.x, t)",
        "tests/causal/test_weighting.py::test_the_estimator_has_the_weights_of_its_weighting_on_a_factor_too"),
    Bug("tables/checks.py", "except OverflowError as error:", "except LookupError as error:",
        "tests/causal/test_estimate.py::test_bad_data_are_refused_in_one_line"),
    Bug("causal/estimate/base.py", " * math.sqrt(len(sums) / (len(sums) - 1))", "",
        "tests/causal/test_errors.py::test_the_error_is_the_norm_of_the_influences_and_with_clusters_of_their_sums"),
    Bug("causal/weighting/inverse_probability.py", '"ATE": (e - 1, e)', '"ATE": (e, e)',
        "tests/causal/test_errors.py::test_m_estimation_is_the_sandwich_of_the_stacked_equations[ipw ATE-False]"),
    Bug("causal/estimate/resampling.py", "if first.resamplable:", "if True:",
        "tests/causal/test_resampling.py::test_matching_resamples_its_influences"),
    Bug("tables/checks.py", "pd.isna(values).sum()", "sum(v is None for v in values)",
        "tests/stable/test_predict.py::test_any_kind_of_missing_value_is_counted"),
    Bug("cli/options.py", "given_path if Path in kinds else note.parser", "note.parser",
        "tests/causal/test_causal_commands.py::test_a_tilde_in_an_output_file_is_the_home_folder"),
    Bug("causal/folds.py", "rarest_levels(x[arm], 10 * folds)", "0 * rows[arm]",
        "tests/causal/test_cross_fitting.py::test_arms_and_rare_levels_are_spread_evenly"),
    Bug("causal/estimate/resampling.py", "rows if whole.clusters is None else whole.clusters[rows])", "whole.clusters)",
        f"{RESAMPLING}::test_no_copy_of_a_unit_and_no_unit_of_a_cluster_is_on_both_sides_of_a_fold[aipw-False]"),
    Bug("causal/estimate/weighted.py", "self.sample_weight_, clusters=self._groups,", "self.sample_weight_,",
        f"{RESAMPLING}::test_no_copy_of_a_unit_and_no_unit_of_a_cluster_is_on_both_sides_of_a_fold[ipw-False]"),
    Bug("causal/estimate/cross_fitted.py", "prior=self._prior).prior_", "prior=False).prior_",
        f"{RESAMPLING}::test_a_sample_that_lacks_a_rare_level_in_an_arm_has_a_prior_and_that_is_said[aipw]"),
    Bug("causal/refute/attempts.py", "yield Verdict(name, None, str(error))", "yield Verdict(name, False, str(error))",
        "tests/causal/test_refute.py::test_what_needs_a_standard_error_is_not_run_without_one"),
    Bug("causal/estimate/t_learner.py", "if (target & ~arm).any():", "if False:",
        "tests/causal/test_cross_fitting.py::test_the_t_learner_needs_no_overlap_but_a_regression_that_knows_the_level"),
    Bug("causal/estimate/cross_fitted.py", "(effects - self.effect_) ** 2", "0",
        "tests/causal/test_cross_fitting.py::test_aipw_is_the_mean_of_its_score_and_the_median_over_repeats"),
    Bug("causal/estimate/aipw.py", "if not flexible(self.model):", "if True:",
        "tests/causal/test_cross_fitting.py::test_a_flexible_model_learns_each_arm_alone_and_both_at_once[ATE]"),
    Bug("causal/estimate/cross_fitted.py", "z[:, -1] = 2.0 * treatment - 1", "z[:, -1] = 2.0 * treatment",
        "tests/causal/test_cross_fitting.py::test_a_flexible_model_learns_each_arm_alone_and_both_at_once[ATC]"),
    Bug("causal/propensity.py", "highs - lows, 2 * self._sd", "1, 1",
        "tests/causal/test_cross_fitting.py::test_a_fold_without_a_likelihoods_maximum_has_the_penalised_one"),
    Bug("causal/estimate/aipw.py", "self._bounded(e, 0, 1 - self.clip)", "self._bounded(e, self.clip, 1 - self.clip)",
        "tests/causal/test_cross_fitting.py::test_scores_are_bounded_where_the_estimand_divides_by_them_and_that_is_said"),
    Bug("causal/graph.py", "graph.has_edge(a, b) and graph.has_edge(c, b)",
        "graph.has_edge(a, b) or graph.has_edge(c, b)",
        "tests/causal/test_graph.py::test_a_back_door_through_a_chain_is_open"),
    Bug("causal/graph.py", "if not _colliders(graph, path)]", "if len(path) < 4]",
        "tests/causal/test_graph.py::test_a_back_door_through_a_chain_is_open"),
    Bug("causal/notation.py", "add_edges_from(product(right, left))", "add_edges_from(product(left, right))",
        "tests/causal/test_notation.py::test_random_graphs_in_random_writing"),
    Bug("causal/positivity.py", "(1,) if is_factor else (0, 1)", "(1,)",
        "tests/causal/test_positivity.py::test_one_sided_levels_are_those_that_a_cross_table_has_a_zero_for"),
    Bug("tables/identity.py", "ordered[ours] = weights[theirs]", "ordered[theirs] = weights[ours]",
        "tests/tables/test_identity.py::test_weights_follow_their_rows"),
    Bug("tables/files.py", "keep_default_na=False", "keep_default_na=True",
        "tests/tables/test_files.py::test_empty_fields_are_missing_and_words_only_where_it_is_said"),
    Bug("causal/separation.py", "cause not in risen and cause not in mute", "cause not in risen",
        "tests/causal/test_graph.py::test_front_doors_instruments_and_colliders_of_random_graphs"),
    Bug("causal/matching/turns.py", "if rows[low] < rows[high] else", "if rows[low] > rows[high] else",
        "tests/causal/test_matching.py::test_distances_that_differ_by_rounding_are_equal"),
    Bug("tables/ties.py", "np.asarray(cuts) - equal", "np.asarray(cuts)",
        "tests/tables/test_ties.py::test_values_at_a_cut_are_above_it"),
    Bug("evaluate/neighbours.py", "return _settled(s, EQUAL), columns", "return s, columns",
        "tests/evaluate/test_neighbours.py::test_the_lowest_of_classes_with_equal_votes_is_chosen"),
    Bug("causal/refute/placebo.py", "low <= 0 <= high and abs(mean)", "low <= 0 <= high or abs(mean)",
        "tests/causal/test_refute.py::test_a_placebo_that_fails_one_condition_alone_fails"),
    Bug("causal/study.py", "(treatment, outcome) == (known.treatment, known.outcome)", "treatment == known.treatment",
        "tests/causal/test_study.py::test_a_named_set_knows_the_truth_of_its_own_outcome_and_treatment_alone"),
    # Segmentation and detection.
    Bug("transfer/boxes.py", "return left < right and top < bottom and right", "return right",
        f"{BOXES}::test_boxes_without_an_area_are_left_out_and_counted"),
    Bug("transfer/boxes.py", "torch.tensor([1.0, 1.0, 0.0, 0.0])", "torch.zeros(4)",
        f"{BOXES}::test_boxes_labels_and_difficult_objects_are_those_of_the_files"),
    Bug("transfer/boxes.py", "box = box.clamp(min=0).minimum(", "box = box.minimum(",
        f"{BOXES}::test_boxes_are_cut_at_the_edge_of_their_image_which_is_told"),
    Bug("transfer/boxes.py", '("test",), "--test-list") or _chosen(roots, test, ("val",)', '("test", "val")',
        f"{BOXES}::test_a_test_list_of_one_year_decides_for_all"),
    Bug("transfer/xml.py", "    parser.StartDoctypeDeclHandler = refuse\n", "",
        f"{BOXES}::test_a_document_type_is_refused_before_anything_is_expanded"),
    Bug("transfer/listing.py", "if not (root / images).is_dir()", "if False",
        f"{BOXES}::test_a_folder_without_images_is_refused_with_the_layout"),
    Bug("transfer/listing.py", "file in seen]", "file is seen]",
        f"{BOXES}::test_a_set_that_cannot_be_used_is_refused"),
    Bug("transfer/masks.py", "torch.tensor([1, 0, IGNORED])", "torch.tensor([1, 0, 0])",
        "tests/transfer/test_masks.py::test_a_pet_is_1_its_background_0_and_its_border_no_class"),
    Bug("transfer/masks.py", "        if image != mask:\n", "        if False:\n",
        "tests/transfer/test_masks.py::test_a_mask_of_another_size_is_refused_with_its_name"),
    Bug("transfer/iou.py", "sums[:, 1] + sums[:, 2] - sums[:, 0])", "sums[:, 1] + sums[:, 2])",
        "tests/transfer/test_iou.py::test_scores_are_those_of_a_loop_over_pixels"),
    Bug("transfer/resampling.py", "uniform(seed, k, units", "uniform(seed, 0, units",
        "tests/transfer/test_iou.py::test_intervals_are_the_percentiles_of_sets_of_drawn_images"),
    Bug("transfer/patches.py", "(rarity * u)[rows]", "u[rows]",
        f"{PATCHES}::test_a_limited_memory_takes_the_same_number_from_each_image_and_prefers_rare_classes"),
    Bug("transfer/patches.py", "(s / self.retrieval.T).softmax(1)", "s.softmax(1)",
        f"{PATCHES}::test_probabilities_are_those_of_a_double_loop"),
    Bug("transfer/patches.py", "        if i not in self.images:\n            return\n", "",
        f"{PATCHES}::test_a_memory_of_fewer_patches_than_images_takes_one_each_of_drawn_images"),
    Bug("transfer/patches.py", "labelled = mask != IGNORED", "labelled = mask >= 0",
        f"{PATCHES}::test_pixels_are_counted_in_the_patch_in_which_they_lie"),
    Bug("transfer/loop.py", "torch.manual_seed(generator_seed(seed, step, 0, STEPS))", "pass",
        f"{HEADS}::test_a_training_that_is_stopped_ends_as_it_would_have"),
    Bug("transfer/loop.py", "optimizer.load_state_dict(state[\"optimizer\"])", "pass",
        f"{HEADS}::test_a_training_that_is_stopped_ends_as_it_would_have"),
    Bug("transfer/loop.py", "encoder_hash(encoder)", "name",
        "tests/transfer/test_transfer.py::test_a_head_does_not_go_on_from_another_training"),
    Bug("transfer/masks.py", ".{digest(*masks)}", "",
        "tests/transfer/test_transfer.py::test_a_head_does_not_go_on_from_another_training"),
    Bug("transfer/batches.py", "generator_seed(self.seed, epoch, i, JOINT)", "generator_seed(self.seed, 0, i, JOINT)",
        f"{HEADS}::test_batches_depend_on_neither_workers_nor_where_they_begin"),
    Bug("transfer/sheets.py", "pixels.argsort(descending=True, stable=True)", "pixels.argsort()",
        "tests/transfer/test_sheets.py::test_classes_without_a_named_colour_are_named_below_each_mask"),
    Bug("transfer/linear.py", "self.dropout(self.norm(maps))", "self.dropout(maps)",
        "tests/transfer/test_linear.py::test_the_head_is_batch_norm_and_a_1x1_convolution"),
    Bug("transfer/detector.py", "image_mean=encoder.mean.flatten().tolist()", "image_mean=[0.4] * encoder.channels",
        f"{DETECTOR}::test_images_are_normalised_as_the_encoder_does_it"),
    Bug("transfer/detector.py", "    for part in frozen:\n        part.requires_grad_(False)\n", "",
        f"{DETECTOR}::test_freeze_counts_the_stem_and_the_stages"),
    Bug("transfer/detector.py", 'for part in [body] if recipe.norm == "frozen" else frozen:', "for part in frozen:",
        f"{DETECTOR}::test_frozen_norms_keep_what_the_run_left"),
    Bug("transfer/detector.py", "nn.Sequential(last, nn.BatchNorm2d(width),", "nn.Sequential(last,",
        f"{DETECTOR}::test_the_head_on_c4_is_the_last_stage_a_norm_and_the_mean"),
    Bug("transfer/pyramid.py", "trunk: Any = copy.deepcopy(plain_trunk(encoder))\n    if isinstance(trunk, TinyResNet)",
        "trunk: Any = plain_trunk(encoder)\n    if isinstance(trunk, TinyResNet)",
        f"{DETECTOR}::test_every_layer_is_trained_and_the_encoder_stays_as_it_is"),
    Bug("transfer/detect.py", 'free = replace(recipe, norm="trained", freeze=0)', "free = recipe",
        "tests/transfer/test_transfer.py::test_nothing_of_an_untrained_encoder_is_frozen_which_is_told"),
    Bug("transfer/average_precision.py", "each.difficult.long()", "0 * each.label",
        "tests/transfer/test_average_precision.py::test_a_difficult_object_is_neither_right_nor_wrong"),
    # What ops refuse.
    Bug("data/source.py", "[self.paths[i] for i in index.tolist()] if self.paths else ()", "self.paths",
        "tests/data/test_aligned.py::test_modalities_of_a_scene_are_the_channels_of_one_image"),
    Bug("data/encoded.py", " if math.isfinite(high - low) else None", "",
        "tests/data/test_files.py::test_an_image_that_is_not_finite_stretches_no_other"),
    Bug("data/folders.py", "and (training is None or all(inner))", "and training is None",
        "tests/data/test_parts.py::test_parts_at_another_level_are_not_taken_together_silently"),
    Bug("ops/library.py", "if not fits or t.dtype not in dtypes:", "if not fits:", OPS),
    Bug("ops/library.py", "    if t.device != device:", "    if False:", OPS),
    Bug("ops/ntxent.py", "(N if n == 0 else N % (2 * n))", "(n and N % (2 * n))", OPS),
    Bug("ops/queue.py", "    pointer.remainder_(K)  # first, so that no sum overflows\n", "",
        "tests/ops/test_queue.py::test_a_pointer_counts_modulo_the_rows_and_nothing_overflows"),
    # Exploring.
    Bug("explore/nearest.py", "torch.arange(first, first + s.shape[1])", "torch.arange(s.shape[1])",
        f"{NEAREST}::test_the_nearest_are_those_of_the_full_matrix_and_ties_go_by_position"),
    Bug("explore/nearest.py", "ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)\n    return (ordered",
        "ordered = bits\n    return (ordered", f"{NEAREST}::test_negative_and_zero_similarities_are_ordered"),
    Bug("explore/nearest.py", "near.triu(1) if ahead == 0", "near.triu() if ahead == 0",
        f"{NEAREST}::test_pairs_are_those_of_a_double_loop"),
    Bug("explore/nearest.py", "candidates(bank, threshold - ROUNDING)", "candidates(bank, threshold + ROUNDING)",
        f"{NEAREST}::test_copies_are_found_at_a_cosine_of_1"),
    Bug("explore/nearest.py", "self.features[self.rows[positions]]", "self.features[positions]",
        f"{NEAREST}::test_pairs_are_those_of_a_double_loop"),
    Bug("explore/nearest.py", "max(1, min(most, BLOCK // self.features.shape[1]))", "most",
        f"{NEAREST}::test_no_more_than_a_block_is_read_at_once"),
    Bug("explore/copies.py", "images - images.mean((2, 3), keepdim=True)", "images - images.mean()",
        "tests/explore/test_duplicates.py::test_plain_images_are_no_copies_of_one_another"),
    Bug("explore/copies.py", "_unit(small.flip(-1))", "_unit(small.flip(-2))",
        "tests/explore/test_duplicates.py::test_each_kind_of_copy_is_told"),
    Bug("explore/clustering.py", "-sizes))", "sizes))",
        "tests/explore/test_cluster.py::test_directions_are_found_whatever_the_lengths"),
    Bug("explore/clustering.py", "known = labels >= 0\n", "known = labels >= -1\n",
        "tests/explore/test_cluster.py::test_agreement_is_that_of_loops"),
    Bug("explore/projection.py", "at[:, 1] = 1 - at[:, 1]", "pass",
        "tests/explore/test_projection.py::test_each_place_has_the_picture_nearest_to_its_middle"),
    Bug("explore/attending.py", "min(int(at[1] * h), h - 1), min(int(at[0] * w), w - 1)]",
        "min(int(at[0] * h), h - 1), min(int(at[1] * w), w - 1)]",
        "tests/explore/test_attend.py::test_similarity_and_components_are_those_of_the_maps"),
    Bug("parts/attention.py", "[:, :, 0, trunk.num_prefix_tokens :]", "[:, :, 1, trunk.num_prefix_tokens :]",
        "tests/explore/test_attend.py::test_attention_is_that_of_loops"),
    Bug("evaluate/origin.py", "if self.weights != now.weights:", "if self.encoder != now.encoder:",
        "tests/explore/test_gallery.py::test_features_of_something_else_are_refused"),
    Bug("evaluate/origin.py", "sources[part].changed_since(fingerprint)", "fingerprint[:0]",
        "tests/explore/test_gallery.py::test_features_of_something_else_are_refused"),
    Bug("evaluate/embedding_files.py", 'if str(arrays.pop("sample", "")) != _sampled(features):',
        'if not arrays.pop("sample", ""):',
        "tests/evaluate/test_embedding_files.py::test_files_of_two_embeddings_are_told_apart"),
    Bug("evaluate/features.py", "        x[~readable] = math.nan\n", "",
        "tests/evaluate/test_unreadable.py::test_an_embedding_flags_and_names_them"),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    bugs = [bug for bug in BUGS if not args.words or any(word in f"{bug.file} {bug.text}" for word in args.words)]
    if outdated := [bug for bug in bugs if bug.outdated]:
        print("a text that does not stand once in its file, or a test that is not there:", *outdated, sep="\n")
        return 1
    if args.check:
        return 0
    for name in HEAVY:
        importlib.import_module(name)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        clean = copied(ROOT, Path(folder) / "clean")
        if (code := os.waitpid(started(clean, *dict.fromkeys(bug.tests for bug in bugs)), 0)[1]) != 0:
            print(f"without a bug the tests end with exit code {os.waitstatus_to_exitcode(code)}")
            return 1
        for bug, verdict in tried(bugs, clean):
            line, *more = (bug.replacement or f"without {bug.text.strip()}").strip().splitlines()
            print(f"{verdict:7} {bug.file}: {line}{' ...' if more else ''}", flush=True)
            verdicts.append(verdict)
    print(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)))
    return int(any(verdict != "caught" for verdict in verdicts))


def tried(bugs: Sequence[Bug], clean: Path) -> Iterator[tuple[Bug, str]]:
    """Each bug with its verdict, as they come: caught, MISSED, or STALE."""
    waiting, running = list(bugs), dict[int, tuple[Bug, Path]]()
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            bug = waiting.pop(0)
            tree = copied(clean, Path(tempfile.mkdtemp(dir=clean.parent)) / "tree")
            path = bug.path(tree)
            path.write_text(path.read_text().replace(bug.text, bug.replacement))
            running[started(tree, bug.tests)] = bug, tree
        pid, status = os.wait()
        bug, tree = running.pop(pid)
        shutil.rmtree(tree)
        yield bug, {0: "MISSED", 1: "caught"}.get(os.waitstatus_to_exitcode(status), "STALE")


def copied(root: Path, tree: Path) -> Path:
    """What the tests need, the built extension too; contrastkit.cli is found there, not where it is installed."""
    for name in ("contrastkit", "cli", "tests", "benchmarks"):
        shutil.copytree(root / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tree)
    if not (tree / "contrastkit" / "cli").exists():
        (tree / "contrastkit" / "cli").symlink_to("../cli")
    return tree


def started(tree: Path, *tests: str) -> int:
    """The id of a process that runs tests of a tree; it exits as pytest does: 0 passed, 1 failed, else not run.

    A fork of this one, which has imported what takes long, but nothing of the tree.
    """
    if (pid := os.fork()) != 0:
        return pid
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[0], sys.dont_write_bytecode = str(tree), True
    sys.modules.pop("tests", None)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os._exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])))


if __name__ == "__main__":
    sys.exit(main())
