"""What people use today: an Optuna study that drives a transformers `Trainer`, one trial after the other.

The Trainer does nothing but train, and evaluate once: no logs, no checkpoints. Its data is tokenised before
the clock starts, its batches are random and padded to their longest, images have their channels last, and
frozen parts stay in eval mode without gradients. Networks, starting weights and recipes are the engine's.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np
import optuna
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PrinterCallback, Trainer, TrainingArguments

from jobs import Work
from luthier.engine.batches import EVALUATION_BATCH
from luthier.models.network import Network
from luthier.recipe import Recipe
from luthier.tasks.base import Examples
from luthier.trial import Order


class WithLoss(nn.Module):
    """A network as a `Trainer` wants it: it is given labels, and returns a loss beside its logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.eval()

    def train(self, mode: bool = True) -> WithLoss:
        """Only where the mode changes: a Trainer asks at every step, and it takes a network a millisecond."""
        return self if mode == self.training else super().train(mode)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """``loss`` and ``logits``, from token ids and their mask or from pixels."""
        if pixel_values is not None:
            logits = self.network(pixel_values=pixel_values.contiguous(memory_format=torch.channels_last))
        else:
            logits = self.network(input_ids=input_ids, attention_mask=attention_mask)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Rows(torch.utils.data.Dataset):
    """A split that is read a batch at a time, with the tensors that the engine reads."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        batch = self.examples.batch(np.array(indices))
        return {**batch.inputs, "labels": batch.targets}


class Peer:
    """A study in memory, with the job's recipes enqueued in the order in which they are asked for."""

    def __init__(self, work: Work) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.work = work
        # Enqueued trials are not sampled; of all samplers this one costs the least on the way.
        self.study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def train(self, order: Order) -> tuple[float, float]:
        """Seconds, and the validation loss after the last epoch."""
        self.study.enqueue_trial({"learning_rate": order.recipe.learning_rate, "trial": order.trial})
        started = time.perf_counter()
        self.study.optimize(self._objective, n_trials=1)
        return time.perf_counter() - started, float(self.study.trials[-1].value)

    def _objective(self, trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", *self.work.job.rates, log=True)
        order = self.work.orders[trial.suggest_int("trial", 0, len(self.work.orders) - 1)]
        recipe = order.recipe.model_copy(update={"learning_rate": rate})
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                WithLoss(self.work.network(order)),
                arguments(recipe, order.seed, folder),
                train_dataset=Rows(self.work.split("train").examples),
                eval_dataset=Rows(self.work.split("validation").examples),
                data_collator=lambda batch: batch,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            return float(trainer.evaluate()["eval_loss"])


def arguments(recipe: Recipe, seed: int, folder: str) -> TrainingArguments:
    """A recipe in the Trainer's words, and all that costs time turned off."""
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=EVALUATION_BATCH,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip_norm,
        label_smoothing_factor=recipe.label_smoothing,
        optim="adamw_torch_fused",
        seed=seed,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        prediction_loss_only=True,
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
