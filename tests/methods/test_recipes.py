"""The papers' hyper-parameters, typed in from the papers and their official code, against the recipes."""

import dataclasses
import re
from typing import Any

import pytest

from contrastkit import augment
from contrastkit.errors import UserError
from contrastkit.methods import EVERY, RECIPES
from contrastkit.methods.rows import choose_row, recipes_of
from contrastkit.names import VIEW_NAMES

# recipe, where it is published, its numbers
PUBLISHED = [
    (
        "instdisc/imagenet",
        "zhirongw/lemniscate.pytorch, main.py and README; arXiv:1805.01978, Sec. 4.1",
        {
            "encoder": "resnet50", "epochs": 200, "batch": 256, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "step", "milestones": (120 / 200, 160 / 200), "gamma": 0.1,
            "lr_per_epoch": True, "warmup_epochs": 0, "loss": "nce", "K": 4096, "tau": 0.07, "m": 0.5, "m_z": 1,
            "proximal": 0, "dim": 128,
        },
    ),
    (
        "instdisc/32",
        "zhirongw/lemniscate.pytorch, cifar.py --nce-k 0 --nce-t 0.1 --lr 0.03 (README): 0.1^((epoch - 80) // 40)",
        {
            "encoder": "resnet18", "epochs": 200, "batch": 128, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 5e-4, "schedule": "step", "milestones": (120 / 200, 160 / 200), "gamma": 0.1,
            "lr_per_epoch": True, "warmup_epochs": 0, "loss": "full", "tau": 0.1, "m": 0.5, "proximal": 0, "dim": 128,
        },
    ),
    (
        "cmc/imagenet",
        "HobbitLong/CMC, train_CMC.py --model resnet50v1 --batch_size 128; README: the published weights have 4,096 "
        "negatives",
        {
            "encoder": "resnet50", "width": 0.5, "colour": "lab", "epochs": 240, "batch": 128, "optimizer": "sgd",
            "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "step",
            "milestones": (120 / 240, 160 / 240, 200 / 240), "gamma": 0.1, "lr_per_epoch": True, "warmup_epochs": 0,
            "loss": "nce", "K": 4096, "tau": 0.07, "m": 0.5, "m_z": 1, "dim": 128,
        },
    ),
    (
        "crd/32",
        "HobbitLong/RepDistiller, train_student.py and scripts/run_cifar_distill.sh: --distill crd -a 0 -b 0.8",
        {
            "encoder": "cifar-resnet20", "epochs": 240, "batch": 64, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9,
            "weight_decay": 5e-4, "schedule": "step", "milestones": (150 / 240, 180 / 240, 210 / 240), "gamma": 0.1,
            "lr_per_epoch": True, "warmup_epochs": 0, "r": 1.0, "a": 0.0, "b": 0.8, "T": 4.0, "K": 16384, "tau": 0.07,
            "m": 0.5, "dim": 128, "negatives": "other",
        },
    ),
    (
        "erm/imagenet",
        "facebookresearch/DomainBed, hparams_registry.py (lr, weight_decay, batch_size) and algorithms.py (Adam); "
        "arXiv:2007.01434, App. D: 5,000 steps",
        {
            "encoder": "resnet50", "epochs": 60, "batch": 3 * 32, "optimizer": "adamw", "lr": 5e-5, "weight_decay": 0,
            "schedule": "constant", "warmup_epochs": 0,
        },
    ),
    (
        "irm/imagenet",
        "facebookresearch/DomainBed, hparams_registry.py: irm_lambda, irm_penalty_anneal_iters of 5,000 steps",
        {"encoder": "resnet50", "lr": 5e-5, "penalty_weight": 100, "penalty_anneal": 500 / 5000},
    ),
    (
        "irm/32",
        "facebookresearch/InvariantRiskMinimization, code/colored_mnist/main.py, defaults",
        {"optimizer": "adamw", "lr": 1e-3, "penalty_weight": 10000, "penalty_anneal": 100 / 501},
    ),
    (
        "groupdro/imagenet",
        "kohpangwei/group_DRO, README (Waterbirds) and loss.py (step_size)",
        {
            "encoder": "resnet50", "epochs": 300, "batch": 128, "optimizer": "sgd", "lr": 0.001, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "constant", "eta": 0.01, "groups": "environment-class",
        },
    ),
    (
        "stablenet/imagenet",
        "xxgege/StableNet, ops/config.py and training/schedule.py",
        {
            "encoder": "resnet18", "epochs": 30, "batch": 128, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "cosine", "lr_per_epoch": True, "sample": "batch", "epochb": 20,
            "lrbl": 1.0, "lambdap": 70, "decay_pow": 2, "num_f": 1, "presave_ratio": 0.9,
        },
    ),
    ("crd/32-kd", "run_cifar_distill.sh: --distill kd -r 0.1 -a 0.9 -b 0", {"r": 0.1, "a": 0.9, "b": 0.0, "T": 4.0}),
    ("crd/32-crd+kd", "run_cifar_distill.sh: --distill crd -a 1 -b 0.8", {"r": 1.0, "a": 1.0, "b": 0.8, "T": 4.0}),
    (
        "simclr-v2-distill/imagenet",
        "arXiv:2006.10029, Sec. 3: as in pre-training, 400 epochs, 5 % of warm-up, rate 0.1 sqrt(4096)",
        {
            "encoder": "resnet50", "epochs": 400, "batch": 4096, "optimizer": "lars", "lr": 6.4, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "cosine", "warmup_epochs": 20, "T": 0.1, "alpha": 1.0,
        },
    ),
    ("simclr-v2-distill/imagenet-smaller", "arXiv:2006.10029, Sec. 3: of a larger teacher", {"T": 1.0, "lr": 6.4}),
    (
        "moco-v1/imagenet",
        "arXiv:1911.05722, Sec. 3.1, 3.3 and 4.1; main_moco.py",
        {
            "encoder": "resnet50", "epochs": 200, "batch": 256, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "step", "milestones": (120 / 200, 160 / 200), "gamma": 0.1,
            "warmup_epochs": 0, "K": 65536, "m": 0.999, "tau": 0.07, "dim": 128, "hidden": 0, "bn_groups": 8,
            "symmetric": False,
        },
    ),
    (
        "moco-v2/imagenet",
        "arXiv:2003.04297, Sec. 3 and Table 1; main_moco.py --mlp --moco-t 0.2 --aug-plus --cos",
        {
            "encoder": "resnet50", "epochs": 200, "batch": 256, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "cosine", "lr_per_epoch": True, "K": 65536, "m": 0.999, "tau": 0.2,
            "dim": 128, "hidden": 2048, "bn_groups": 8,
        },
    ),
    (
        "moco-v1/32",
        "facebookresearch/moco, branch colab-notebook",
        {
            "encoder": "resnet18", "epochs": 200, "batch": 512, "lr": 0.06, "momentum": 0.9, "weight_decay": 5e-4,
            "schedule": "cosine", "K": 4096, "m": 0.99, "tau": 0.1, "dim": 128, "hidden": 0, "bn_groups": 8,
            "symmetric": False,
        },
    ),
    (
        "invaspread/32",
        "mangye16/Unsupervised_Embedding_Learning, demo_seen.py; arXiv:1904.03436, Sec. 4.1",
        {
            "encoder": "resnet18", "epochs": 301, "batch": 128, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 5e-4, "schedule": "step", "milestones": (120 / 301,), "gamma": 0.1, "lr_per_epoch": True,
            "tau": 0.1, "dim": 128,
        },
    ),
    (
        "simclr-v1/imagenet",
        "arXiv:2002.05709, Sec. 2.3; google-research/simclr, README of March 2020 and lars_optimizer.py",
        {
            "encoder": "resnet50", "epochs": 100, "batch": 4096, "optimizer": "lars", "lr": 0.3 * 4096 / 256,
            "momentum": 0.9, "trust": 0.001, "trust_clip": False, "lr_inside_momentum": True, "weight_decay": 1e-6,
            "schedule": "cosine", "lr_per_epoch": False, "warmup_epochs": 10, "tau": 0.1, "dim": 128,
            "projector": "nonlinear", "layers": 2, "hidden": None, "zero_init": True, "finetune_from": 0, "memory": 0,
        },
    ),
    (
        "simclr-v2/imagenet",
        "google-research/simclr, README at HEAD (rate 0.075 sqrt(4096)); arXiv:2006.10029, Sec. 2: 3 layers, the first "
        "kept, EMA 0.999",
        {
            "encoder": "resnet50", "epochs": 100, "batch": 4096, "optimizer": "lars", "lr": 0.075 * 64,
            "lr_inside_momentum": True, "weight_decay": 1e-4, "schedule": "cosine", "warmup_epochs": 10, "tau": 0.1,
            "dim": 128, "layers": 3, "hidden": None, "finetune_from": 1, "m": 0.999,
        },
    ),
    (
        "simclr-v1/32",
        "google-research/simclr, README of March 2020, CIFAR-10 (rate 1.0 x 512 / 256)",
        {
            "encoder": "resnet18", "epochs": 1000, "batch": 512, "optimizer": "lars", "lr": 2.0, "weight_decay": 1e-6,
            "lr_inside_momentum": True, "warmup_epochs": 10, "tau": 0.5, "dim": 128, "layers": 2, "hidden": None,
        },
    ),
    (
        "simclr-v2/32",
        "google-research/simclr, README at HEAD, CIFAR-10",
        {"epochs": 1000, "batch": 512, "lr": 2.0, "weight_decay": 1e-4, "tau": 0.5, "layers": 3},
    ),
    (
        "swav/imagenet",
        "facebookresearch/swav, scripts/swav_800ep_pretrain.sh (8 x 8 GPUs of 64 images) and main_swav.py",
        {
            "encoder": "resnet50", "epochs": 800, "batch": 8 * 8 * 64, "optimizer": "lars", "lr": 4.8, "momentum": 0.9,
            "weight_decay": 1e-6, "trust": 0.001, "lr_inside_momentum": False, "schedule": "cosine",
            "warmup_epochs": 10, "first_lr": 0.3, "final_lr": 0.0048, "lr_per_epoch": False, "K": 3000, "tau": 0.1,
            "epsilon": 0.05, "iterations": 3, "dim": 128, "hidden": 2048, "assign": 2, "queue_length": 0,
            "freeze_epochs": 1,
        },
    ),
    (
        "swav/imagenet-256",
        "facebookresearch/swav, scripts/swav_400ep_bs256_pretrain.sh (4 GPUs of 64 images)",
        {
            "encoder": "resnet50", "epochs": 400, "batch": 4 * 64, "optimizer": "lars", "lr": 0.6, "weight_decay": 1e-6,
            "trust": 0.001, "warmup_epochs": 0, "final_lr": 0.0006, "K": 3000, "tau": 0.1, "epsilon": 0.05,
            "iterations": 3, "queue_length": 3840, "queue_epochs": 15, "freeze_epochs": 1,
        },
    ),
    (
        "swav/32",
        "lightly, docs/source/getting_started/benchmarks/cifar10_benchmark.py, batch 512: rate 1e-3 x 512 / 128",
        {
            "encoder": "resnet18", "epochs": 200, "batch": 512, "optimizer": "adamw", "lr": 0.004, "weight_decay": 1e-6,
            "schedule": "cosine", "warmup_epochs": 0, "final_lr": 0, "K": 512, "tau": 0.1, "epsilon": 0.05,
            "iterations": 3, "dim": 128, "hidden": 512, "queue_length": 0, "freeze_epochs": 0,
        },
    ),
    (
        "byol/imagenet",
        "arXiv:2006.07733, Sec. 3.3 and App. J; deepmind-research/byol/configs/byol.py, 1000 epochs",
        {
            "encoder": "resnet50", "epochs": 1000, "batch": 4096, "optimizer": "lars", "lr": 0.2 * 4096 / 256,
            "momentum": 0.9, "trust": 1e-3, "trust_clip": False, "lr_inside_momentum": False, "weight_decay": 1.5e-6,
            "schedule": "cosine", "lr_per_epoch": False, "warmup_epochs": 10, "m": 0.996, "hidden": 4096, "dim": 256,
            "projector_norm": "batch", "predictor_norm": "batch", "encoder_norm": "batch", "negatives": 0,
        },
    ),
    (
        "byol/32",
        "vturrisi/solo-learn, scripts/pretrain/cifar/byol.yaml",
        {
            "encoder": "resnet18", "epochs": 1000, "batch": 256, "optimizer": "lars", "lr": 1.0, "trust": 0.02,
            "trust_clip": True, "weight_decay": 1e-5, "warmup_epochs": 10, "m": 0.99, "hidden": 4096, "dim": 256,
        },
    ),
    (
        "simsiam/imagenet",
        "arXiv:2011.10566, Sec. 3 and Table 1; facebookresearch/simsiam, main_simsiam.py --fix-pred-lr",
        {
            "encoder": "resnet50", "epochs": 100, "batch": 512, "optimizer": "sgd", "lr": 0.05 * 512 / 256,
            "momentum": 0.9, "weight_decay": 1e-4, "schedule": "cosine", "lr_per_epoch": True, "warmup_epochs": 0,
            "layers": 3, "hidden": 2048, "dim": 2048, "bottleneck": 512, "fix_pred_lr": True, "zero_init": True,
            "stop_gradient": True, "predictor": "trained", "batch_norm": "default", "symmetric": True,
        },
    ),
    (
        "simsiam/32",
        "arXiv:2011.10566, App. D (0.03 for a batch of 256, two layers, no blur)",
        {
            "encoder": "resnet18", "epochs": 800, "batch": 512, "optimizer": "sgd", "lr": 0.03 * 512 / 256,
            "weight_decay": 5e-4, "lr_per_epoch": True, "warmup_epochs": 0, "layers": 2, "hidden": 2048, "dim": 2048,
            "bottleneck": 512,
        },
    ),
    (
        "cpc-audio/speech",
        "arXiv:1807.03748, Sec. 3.1 (8 GPUs of 8 sounds, 300,000 updates of train-clean-100)",
        {
            "encoder": "wave", "epochs": round(300_000 / (28_539 // 64)), "batch": 8 * 8, "optimizer": "adamw",
            "weight_decay": 0.0, "lr": 2e-4, "schedule": "constant", "steps_to_predict": 12, "tau": 1.0, "frames": 128,
        },
    ),
    (
        "cpc-v1/imagenet",
        "arXiv:1807.03748, Sec. 3.2",
        {
            "encoder": "resnet101", "stages": 3, "batch": 32 * 16, "optimizer": "adamw", "weight_decay": 0.0,
            "lr": 2e-4, "patch": 64, "stride": 32, "rows": 7, "directions": 1, "steps_to_predict": 5, "target_dim": 0,
            "tau": 1.0,
        },
    ),
    (
        "cpc-v2/imagenet",
        "arXiv:1905.09272, Sec. 3.1, App. A.1 and A.2",
        {
            "encoder": "resnet50", "stages": 4, "norm": "layer", "epochs": 200, "batch": 512, "optimizer": "adamw",
            "weight_decay": 0.0, "lr": 4e-4, "clip_norm": 0.01, "patch": 80, "stride": 36, "rows": 6, "directions": 4,
            "steps_to_ignore": 2, "steps_to_predict": 3, "target_dim": 64, "tau": 1 / 0.1, "blocks": 5, "hidden": 256,
        },
    ),
    (
        "cpc-v2/32",
        "lightning-bolts, cpc_module.py and its documentation: CIFAR-10",
        {
            "epochs": 1000, "batch": 64, "optimizer": "adamw", "lr": 4e-5, "patch": 8, "stride": 4, "rows": 7,
            "target_dim": 64, "tau": 1 / 0.1, "norm": "layer",
        },
    ),
    (
        "clip/cc3m",
        "mlfoundations/open_clip, README (8 GPUs of 128 pairs, --warmup 10000), RN50.json, and get_default_params: of "
        "ResNets, beta2 0.999 and eps 1e-8; 3,318,333 pairs",
        {
            "encoder": "timm:resnet50_clip", "epochs": 30, "batch": 8 * 128, "optimizer": "adamw", "lr": 1e-3,
            "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "schedule": "cosine", "lr_per_epoch": False,
            "warmup_epochs": 10_000 / 3240, "loss": "clip", "dim": 1024, "vocabulary": 49408, "context": 77,
            "text_width": 512, "text_layers": 12, "text_heads": 8, "activation": "gelu",
        },
    ),
    (
        "ms-clip/yfcc",
        "arXiv:2207.12661 (batch, epochs); Hxyou/MSCLIP, b32-yfcc-msclips.yaml (LR_SHARE, WD_SHARE) and b32.yaml",
        {
            "encoder": "timm:vit_base_patch32_clip_224", "epochs": 32, "batch": 4096, "optimizer": "adamw", "lr": 1e-4,
            "weight_decay": 0.2, "schedule": "cosine", "warmup_epochs": 5, "first_lr": 1e-6, "final_lr": 1e-5,
            "dim": 512, "vocabulary": 49408, "context": 77, "share": "all", "activation": "quickgelu",
        },
    ),
    (
        "moco-v3/imagenet",
        "facebookresearch/moco-v3, main_moco.py, moco/optimizer.py and CONFIG.md (100 epochs)",
        {
            "encoder": "resnet50", "epochs": 100, "batch": 4096, "optimizer": "lars", "lr": 0.6 * 4096 / 256,
            "momentum": 0.9, "weight_decay": 1e-6, "trust": 0.001, "trust_clip": False, "lr_inside_momentum": False,
            "schedule": "cosine", "lr_per_epoch": False, "warmup_epochs": 10, "tau": 1.0, "m": 0.99, "m_cos": True,
            "dim": 256, "hidden": 4096, "layers": 2, "predictor_norm": False, "zero_init": True,
        },
    ),
    (
        "moco-v3/imagenet-vit",
        "facebookresearch/moco-v3, CONFIG.md (ViT-Small), vits.py and moco/builder.py",
        {
            "encoder": "timm:vit_small_patch16_224", "epochs": 300, "batch": 4096, "optimizer": "adamw",
            "lr": 1.5e-4 * 4096 / 256, "weight_decay": 0.1, "schedule": "cosine", "warmup_epochs": 40, "tau": 0.2,
            "m": 0.99, "m_cos": True, "dim": 256, "hidden": 4096, "layers": 3, "predictor_norm": True, "heads": 12,
            "stop_grad_conv1": True,
        },
    ),
    (
        "moco-v3/32",
        "vturrisi/solo-learn, scripts/pretrain/cifar/mocov3.yaml and solo/methods/mocov3.py",
        {
            "encoder": "resnet18", "epochs": 1000, "batch": 256, "optimizer": "lars", "lr": 0.3, "weight_decay": 1e-6,
            "trust": 0.02, "trust_clip": True, "schedule": "cosine", "warmup_epochs": 10, "tau": 0.2, "m": 0.99,
            "m_cos": True, "dim": 256, "hidden": 4096, "layers": 2, "predictor_norm": False,
        },
    ),
    (
        "dino/imagenet",
        "facebookresearch/dino, main_dino.py and README (vanilla: 8 GPUs of 64 images); arXiv:2104.14294, Sec. 3.2",
        {
            "encoder": "timm:vit_small_patch16_224", "epochs": 100, "batch": 512, "optimizer": "adamw",
            "lr": 0.0005 * 512 / 256, "final_lr": 1e-6, "weight_decay": 0.04, "final_weight_decay": 0.4,
            "schedule": "cosine", "lr_per_epoch": False, "warmup_epochs": 10, "out_dim": 65536, "hidden": 2048,
            "layers": 3, "bottleneck": 256, "head_bn": False, "norm_last_layer": True, "freeze_epochs": 1, "tau_s": 0.1,
            "tau_t": 0.04, "warmup_tau_t": 0.04, "warmup_teacher_epochs": 0, "m": 0.996, "m_cos": True, "centre_m": 0.9,
            "clip": 3.0, "clip_norm": 0, "drop_path": 0.1,
        },
    ),
    (
        "dino/imagenet-r50",
        "facebookresearch/dino, README (ResNet-50: --optimizer sgd --lr 0.03 --weight_decay 1e-4)",
        {
            "encoder": "resnet50", "epochs": 100, "batch": 512, "optimizer": "sgd", "lr": 0.03 * 512 / 256,
            "momentum": 0.9, "weight_decay": 1e-4, "final_weight_decay": None, "warmup_epochs": 10, "drop_path": 0.0,
        },
    ),
    (
        "dino/32",
        "lightly-ai/lightly, docs/source/getting_started/benchmarks/cifar10_benchmark.py",
        {
            "encoder": "resnet18", "epochs": 200, "batch": 128, "optimizer": "sgd", "lr": 0.06, "momentum": 0.9,
            "weight_decay": 5e-4, "schedule": "cosine", "lr_per_epoch": True, "warmup_epochs": 0, "out_dim": 2048,
            "hidden": 2048, "layers": 2, "bottleneck": 256, "head_bn": True, "norm_last_layer": True,
            "freeze_epochs": 0, "tau_s": 0.1, "tau_t": 0.04, "m": 0.99, "m_cos": False, "centre_m": 0.9, "clip": 0,
        },
    ),
    (
        "mae/imagenet",
        "facebookresearch/mae, PRETRAIN.md (--norm_pix_loss --epochs 800), main_pretrain.py and models_mae.py (ViT-B)",
        {
            "encoder": "timm:vit_base_patch16_224", "epochs": 800, "batch": 4096, "optimizer": "adamw",
            "lr": 1.5e-4 * 4096 / 256, "betas": (0.9, 0.95), "weight_decay": 0.05, "final_weight_decay": None,
            "schedule": "cosine", "lr_per_epoch": False, "final_lr": 0, "warmup_epochs": 40, "clip_norm": 0,
            "mask_ratio": 0.75, "norm_pix": True, "decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16,
            "patch_size": 0, "width": 0, "depth": 0, "heads": 0, "pool": "token",
        },
    ),
]  # fmt: skip

VIEWS = [
    ("instdisc", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 1.0, "brightness": 0.4,
                  "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "gray_p": 0.2, "gray_first": True, "blur_p": 0.0}),
    ("instdisc-cifar", {"size": 32, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.0, "jitter_p": 1.0, "brightness": 0.4,
                        "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "gray_p": 0.2, "gray_first": False,
                        "blur_p": 0.0}),
    ("cmc", {"size": 224, "crop_min": 0.08, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.0, "gray_p": 0.0,
             "blur_p": 0.0, "solarize_p": 0.0}),
    ("cmc-32", {"size": 32, "crop_min": 0.2, "flip_p": 0.5, "jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0}),
    ("crd-32", {"size": 32, "crop_min": 1.0, "ratio": 1.0, "flip_p": 0.5, "jitter_p": 0.0, "gray_p": 0.0}),
    ("simclr-distill", {"size": 224, "crop_min": 0.08, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.0, "gray_p": 0.0,
                        "blur_p": 0.0}),
    ("moco-v1", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 1.0, "brightness": 0.4,
                 "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "gray_p": 0.2, "gray_first": True, "blur_p": 0.0}),
    ("moco-v2", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4,
                 "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray_p": 0.2, "gray_first": False, "blur_p": 0.5,
                 "sigma_min": 0.1, "sigma_max": 2.0}),
    ("moco-cifar", {"size": 32, "crop_min": 0.08, "flip_p": 0.5, "jitter_p": 0.8, "hue": 0.1, "gray_p": 0.2,
                    "blur_p": 0.0}),
    ("simclr", {"size": 224, "crop_min": 0.08, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.8,
                "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "gray_p": 0.2, "gray_first": False, "blur_p": 0.5,
                "blur_span": 0.1, "sigma_min": 0.1, "sigma_max": 2.0, "solarize_p": 0.0}),
    ("simclr-cifar", {"size": 32, "crop_min": 0.08, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4, "contrast": 0.4,
                      "saturation": 0.4, "hue": 0.1, "gray_p": 0.2, "blur_p": 0.0}),
    ("swav", {"flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2,
              "gray_p": 0.2, "gray_first": False, "blur_p": 0.5, "sigma_min": 0.1, "sigma_max": 2.0,
              "solarize_p": 0.0}),
    ("swav-cifar", {"size": 32, "crop_min": 0.14, "crop_max": 1.0, "brightness": 0.8, "hue": 0.2, "gray_p": 0.2,
                    "blur_p": 0.0}),
    ("clip", {"size": 224, "crop_min": 0.9, "crop_max": 1.0, "ratio": 4 / 3, "interpolation": "bicubic", "flip_p": 0.0,
              "jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0, "solarize_p": 0.0}),
    ("moco-v3", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4,
                 "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "gray_p": 0.2, "sigma_min": 0.1, "sigma_max": 2.0,
                 "blur_span": 0.0}),
    ("moco-v3-vit", {"size": 224, "crop_min": 0.08, "crop_max": 1.0, "saturation": 0.2, "hue": 0.1}),
    ("dino", {"flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1,
              "gray_p": 0.2, "sigma_min": 0.1, "sigma_max": 2.0, "blur_span": 0.0}),
    ("dino-32", {"size": 32, "crop_min": 0.4, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4,
                 "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "gray_p": 0.2, "blur_p": 0.0}),
    ("mae", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.0, "gray_p": 0.0,
             "blur_p": 0.0, "solarize_p": 0.0}),
    ("domainbed", {"size": 224, "crop_min": 0.7, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 1.0, "brightness": 0.3,
                   "contrast": 0.3, "saturation": 0.3, "hue": 0.3, "gray_p": 0.1, "blur_p": 0.0}),
    ("groupdro", {"size": 224, "crop_min": 0.7, "crop_max": 1.0, "ratio": 4 / 3, "flip_p": 0.5, "jitter_p": 0.0,
                  "gray_p": 0.0}),
    ("stablenet", {"size": 224, "crop_min": 0.8, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 1.0, "brightness": 0.4,
                   "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "gray_p": 0.1, "blur_p": 0.0}),
    ("digits", {"flip_p": 0.0, "jitter_p": 0.0, "gray_p": 0.0}),
    ("cpc-v1", {"size": 256, "crop_min": (256 / 300) ** 2, "crop_max": (256 / 300) ** 2, "ratio": 1.0, "flip_p": 0.5,
                "jitter_p": 0.0, "gray_p": 1.0, "blur_p": 0.0}),
    ("cpc-v1-patches", {"size": 64, "crop_min": (60 / 64) ** 2, "crop_max": (60 / 64) ** 2, "ratio": 1.0, "flip_p": 0.0,
                        "jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0}),
    ("cpc-v2", {"size": 260, "crop_min": (260 / 300) ** 2, "crop_max": (260 / 300) ** 2, "ratio": 1.0, "flip_p": 0.5,
                "jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0}),
    ("cpc-v2-patches", {"size": 80, "flip_p": 0.0, "jitter_p": 0.8, "brightness": 32 / 255, "contrast": 0.5,
                        "saturation": 0.5, "hue": 0.2, "gray_p": 0.25, "solarize_p": 2 / 16, "blur_p": 0.0}),
    ("cpc-cifar", {"size": 32, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4,
                   "hue": 0.2, "gray_p": 0.25, "blur_p": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "numbers"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_recipe_is_the_published_one(name: str, source: str, numbers: dict[str, Any]) -> None:
    actual = {key: getattr(EVERY[name], key) for key in numbers}
    assert actual == numbers, source


@pytest.mark.parametrize(("name", "numbers"), VIEWS, ids=[row[0] for row in VIEWS])
def test_views_are_the_published_ones(name: str, numbers: dict[str, Any]) -> None:
    for view in augment.VIEWS[name]:
        assert {key: getattr(view, key) for key in numbers} == numbers


@pytest.mark.parametrize(
    ("name", "blur", "size"), [("byol", (1.0, 0.1), 224), ("byol-cifar", (0.0, 0.0), 32)]
)  # arXiv:2006.07733, Table 6; solo-learn, scripts/pretrain/cifar/augmentations/asymmetric.yaml
def test_byols_two_views_differ_in_blur_and_solarization(name: str, blur: tuple[float, float], size: int) -> None:
    numbers = {"size": size, "crop_min": 0.08, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4, "contrast": 0.4,
               "saturation": 0.2, "hue": 0.1, "gray_p": 0.2}  # fmt: skip
    for view, blur_p, solarize_p in zip(augment.VIEWS[name], blur, (0.0, 0.2), strict=True):
        assert {key: getattr(view, key) for key in numbers} == numbers
        assert (view.blur_p, view.solarize_p) == (blur_p, solarize_p)


def test_view_names_stand_for_the_table() -> None:
    assert set(VIEW_NAMES) == set(augment.VIEWS)


@pytest.mark.parametrize(
    ("given", "row"),
    [
        ({"size": 224, "encoder": None, "orientation_matters": False}, "moco-v2/imagenet"),
        ({"size": 65, "encoder": None, "orientation_matters": False}, "moco-v2/imagenet"),
        ({"size": 64, "encoder": None, "orientation_matters": False}, "moco-v2/32"),
        ({"size": 32, "encoder": "resnet18", "orientation_matters": True}, "moco-v2/32"),
        ({"size": 32, "encoder": "tiny", "orientation_matters": False}, "moco-v2/tiny"),
        ({"size": 32, "encoder": None, "orientation_matters": True}, "moco-v2/digits"),
        ({"size": 32, "encoder": None, "orientation_matters": True, "row": "tiny"}, "moco-v2/tiny"),
        ({"size": 49, "encoder": None, "orientation_matters": False, "small_machine": True}, "moco-v2/small"),
        ({"size": 48, "encoder": None, "orientation_matters": False, "small_machine": True}, "moco-v2/32"),
        ({"size": 64, "encoder": None, "orientation_matters": True, "small_machine": True}, "moco-v2/digits"),
        ({"size": 224, "encoder": "tiny", "orientation_matters": False, "small_machine": True}, "moco-v2/tiny"),
        ({"size": 224, "encoder": "timm:x", "orientation_matters": False, "small_machine": True}, "moco-v2/small"),
        ({"size": 224, "encoder": "resnet50", "orientation_matters": False, "small_machine": True}, "moco-v2/imagenet"),
    ],
)
def test_the_images_the_encoder_and_the_machine_choose_the_row(given: dict[str, Any], row: str) -> None:
    assert choose_row(recipes_of("moco"), **given) == row


@pytest.mark.parametrize("small_machine", [False, True])
@pytest.mark.parametrize(
    ("method", "encoder", "row"),
    [
        ("dino", "resnet50", "imagenet-r50"),
        ("dino", "timm:vit_small_patch16_224", "imagenet"),
        ("moco-v3", "timm:vit_small_patch16_224", "imagenet-vit"),
        ("moco-v3", "resnet50", "imagenet"),
        ("swav", "resnet50", "imagenet"),
    ],
)
def test_of_several_published_recipes_the_encoder_chooses(
    method: str, encoder: str, row: str, small_machine: bool
) -> None:
    """On any machine."""
    given: dict[str, Any] = {"size": 224, "encoder": encoder, "orientation_matters": False}
    assert choose_row(recipes_of(method), **given, small_machine=small_machine) == f"{method}/{row}"


def test_the_encoder_of_both_rows_does_not_ask_for_the_papers() -> None:
    given: dict[str, Any] = {"size": 224, "encoder": "resnet18", "orientation_matters": False, "small_machine": True}
    assert choose_row(recipes_of("invaspread"), **given) == "invaspread/small"


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("/small")])
def test_small_is_tiny_with_more_pixels_and_a_rate_that_follows_the_batch(name: str) -> None:
    small, tiny = RECIPES[name], RECIPES[name.replace("/small", "/tiny")]
    transformer = name in ("mae/small", "ms-clip/small")  # which the rule's resnet18 is not
    assert (small.encoder, small.epochs, small.batch) == (tiny.encoder if transformer else "resnet18", 10, 64)
    assert small.lr == tiny.lr / tiny.batch * 64
    assert [view.size for view in small.views] == [4 * view.size for view in tiny.views]
    assert small.views[0].size == 96
    kept = {"encoder", "epochs", "batch", "lr", "views", "K", "patch", "stride"}
    kept |= {"patch_size", "width", "depth"} if transformer else set()
    same = {item.name for item in dataclasses.fields(tiny)} - kept
    assert {key: getattr(small, key) for key in same} == {key: getattr(tiny, key) for key in same}


@pytest.mark.parametrize(
    ("method", "row", "says"),
    [("mocco", None, "did you mean 'moco'"), ("moco-v2", "tinny", "did you mean 'tiny'")],
)
def test_an_unknown_name_suggests_the_nearest(method: str, row: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_row(recipes_of(method), size=32, encoder=None, orientation_matters=False, row=row)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("moco-v2/tiny", {"schedule": "linear"}, "--schedule must be one of cosine, step, constant, not 'linear'"),
        ("moco-v2/tiny", {"optimizer": None}, "--optimizer must be one of sgd, lars, adamw, not None"),
        ("cmc/tiny", {"bank_dtype": "float16"}, "--bank-dtype must be one of float32, bfloat16, not 'float16'"),
        ("byol/tiny", {"predictor_norm": "instance"}, "--predictor-norm must be one of"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(name: str, change: dict[str, Any], says: str) -> None:
    """In the library, where no parser stands before the recipe, and from recipe.json."""
    with pytest.raises(UserError, match=f"^{re.escape(says)}"):
        dataclasses.replace(RECIPES[name], **change)
    with pytest.raises(UserError, match=f"^recipe.{next(iter(change))} must be one of"):
        type(RECIPES[name]).from_json(dataclasses.asdict(RECIPES[name]) | change)
