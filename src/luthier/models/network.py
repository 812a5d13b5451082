"""`Network`: a body, a pooling and a head, with only what the recipe trains left trainable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from luthier.errors import ModelError
from luthier.models import backbone, families, heads
from luthier.models.adapt import Depths, adapt
from luthier.models.families import Family, Level
from luthier.models.source import Source
from luthier.recipe import Recipe


@dataclass(frozen=True)
class HeadMaker:
    """Makes new heads of one shape, as many as there are seeds, without the body.

    Attributes:
        source: Some checkpoints carry a head's lower layers ready-trained.
        family: The body's kind.
        level: One answer an example, or one a token.
        form: See `heads.layers`.
        width: Size of the features.
        num_outputs: Size of the logits.
        config: The body's config.
        prefix: The body's name in a whole model.
        pooling: What the head reads; see `heads.pool`.
    """

    source: Source
    family: Family
    level: Level
    form: str
    width: int
    num_outputs: int
    config: Any
    prefix: str
    pooling: str

    def head(self, recipe: Recipe, seed: int) -> nn.Sequential:
        """A new head: its random weights depend on the seed alone.

        Raises:
            ModelError: It is to start as the model's own, which brings none of this form.
        """
        head = heads.build(
            self.form,
            self.width,
            self.num_outputs,
            dropout=recipe.head_dropout,
            config=self.config,
            seed=seed,
        )
        if recipe.init == "pretrained" and recipe.head_init == "model":
            self._go_on(head)
        elif recipe.init == "pretrained" and recipe.head == "native":
            self._start(head)
        return head

    def state(self, recipe: Recipe, seed: int) -> dict[str, torch.Tensor]:
        """A new head's weights, as `Network.trained_state` names them."""
        return {f"head.{name}": value for name, value in self.head(recipe, seed).state_dict().items()}

    def _go_on(self, head: nn.Sequential) -> None:
        """Takes the trained head that the model brings."""
        brought = self.source.head
        wanted = (self.form, self.pooling, self.level)
        if brought is None or (brought.form, brought.pooling, brought.level) != wanted:
            has = "none" if brought is None else f"one of form {brought.form} on {brought.pooling}"
            raise ModelError(
                f"The model {self.source.name!r} brings no trained head of form {self.form} on "
                f"{self.pooling}: it brings {has}.",
                "Use head_init random or probe, or give it the head and pooling that it was trained with.",
            )
        brought.start(head)

    def _start(self, head: nn.Sequential) -> None:
        """Takes the layers below the classifier from the checkpoint, where it carries them trained."""
        for ours, theirs in self.family.head_sources.items():
            if ours not in self.family.names(self.level):
                continue
            layer = head.get_submodule(ours)
            state = backbone.checkpoint_layer(self.source, theirs, self.prefix)
            own = layer.state_dict()
            if set(state) == set(own) and all(state[k].shape == own[k].shape for k in own):
                layer.load_state_dict(state)


class Network(nn.Module):
    """One model to fine-tune; `build` makes it.

    In training mode, every part below the lowest trainable one stays in eval mode: its dropout is off, so
    its outputs are the same in each epoch. A batch normalisation whose scale is frozen keeps its running
    statistics and normalises with them, so ``bias`` and ``lora`` never change them, while ``full`` and the
    trained blocks of ``last_k`` use the statistics of the batch and update the running ones.

    Args:
        body: A transformers body, adapted.
        head: From features to logits.
        maker: Makes other new heads of the same shape, where the network has a new one.
        family: The body's kind.
        level: One answer an example, or one a token.
        pooling: See `heads.pool`; does not count at token level.
        head_form: See `heads.layers`.
        width: Size of the features.

    Attributes:
        width: Size of the features that the head reads.
        num_outputs: Size of the logits.
        start: Depth at which the forward pass begins: ``num_blocks + 1``, the embeddings, unless `cut.at`
            took the lower part away.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Sequential,
        maker: HeadMaker | None = None,
        *,
        family: Family,
        level: Level,
        pooling: str,
        head_form: str,
        width: int,
        num_outputs: int,
    ) -> None:
        super().__init__()
        self.backbone = body
        self.head = head
        self.maker = maker
        self.family = family
        self.level = level
        self.pooling = pooling
        self.head_form = head_form
        self.width = width
        self.num_outputs = num_outputs
        self._depths = Depths(body, family)
        self.start = self._depths.num_blocks + 1
        self.train(False)

    @property
    def config(self) -> Any:
        """The body's transformers config."""
        return self.backbone.config

    @property
    def num_blocks(self) -> int:
        """Blocks between the embeddings and the head."""
        return self._depths.num_blocks

    @property
    def body_is_frozen(self) -> bool:
        """Whether only the head is trained."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    @property
    def cut(self) -> int:
        """Depth of the deepest trainable parameter: 0 if only the head is trained, ``num_blocks + 1`` if the
        embeddings are.
        """
        return max((self.depth(name) for name in self.trainable()), default=0)

    def features(self, **inputs: torch.Tensor) -> torch.Tensor:
        """What the head reads.

        Args:
            inputs: ``input_ids`` and ``attention_mask`` (batch, length), or ``pixel_values``
                (batch, channels, height, width), normalised. Where `cut.at` took the lower part away,
                ``states`` as `cut.capture` gave them stand in for ``input_ids`` or ``pixel_values``.

        Returns:
            (batch, width), or (batch, length, width) at token level.

        Raises:
            ValueError: States for a whole network, or tokens or pixels for a cut one.
        """
        if (self.start <= self.num_blocks) != ("states" in inputs):
            raise ValueError(f"A network that starts at depth {self.start} cannot read {sorted(inputs)}.")
        if "states" in inputs:
            states = inputs.pop("states")
            if self.start == 0:
                return states
            inputs["inputs_embeds" if self.family.modality == "text" else "pixel_values"] = states
        output = self.backbone(**inputs)
        if self.level == "token":
            last: torch.Tensor = output.last_hidden_state
            return last
        return heads.pool(self.pooling, output, inputs.get("attention_mask"), self.family.special_tokens)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits: (batch, outputs), or (batch, length, outputs) at token level. Inputs as for `features`."""
        logits: torch.Tensor = self.head(self.features(**inputs))
        return logits

    def depth(self, name: str) -> int:
        """How far below the output a parameter lies.

        Args:
            name: As in ``named_parameters``.

        Returns:
            0 for the head, 1 for the top block and any norm above it, ``num_blocks`` for the lowest block and
            ``num_blocks + 1`` for the embeddings.
        """
        part, _, rest = name.partition(".")
        return 0 if part == "head" else self._depths.of(rest)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def train(self, mode: bool = True) -> Network:
        """Training or eval mode; frozen parts stay in eval mode (see the class)."""
        super().train(mode)
        if mode:
            lowest = self.cut
            for name, module in self.backbone.named_modules():
                frozen_statistics = isinstance(module, _BatchNorm) and not module.weight.requires_grad
                if frozen_statistics or self._depths.of(f"{name}.") > lowest:
                    module.training = False
        return self

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Copies of all that training changes: trainable parameters, and trained batch norms' statistics."""
        state = {name: parameter.detach().clone() for name, parameter in self.trainable().items()}
        state.update({name: buffer.detach().clone() for name, buffer in self._trained_buffers().items()})
        return state

    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `trained_state` gave.

        Raises:
            ModelError: The state is of a network that trains something else.
        """
        own: dict[str, torch.Tensor] = {**self.trainable(), **self._trained_buffers()}
        different = sorted(set(own) ^ set(state)) or [k for k in own if own[k].shape != state[k].shape]
        if different:
            raise ModelError(f"The trained state is of another network: {different[0]!r} differs.")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def _trained_buffers(self) -> dict[str, torch.Tensor]:
        return {
            f"backbone.{name}.{leaf}": buffer
            for name, module in self.backbone.named_modules()
            if isinstance(module, _BatchNorm) and module.weight.requires_grad
            for leaf, buffer in module.named_buffers(recurse=False)
        }


def build(source: Source, recipe: Recipe, *, level: Level, num_outputs: int, seed: int) -> Network:
    """A network ready to be trained as the recipe says, on the CPU in float32, in eval mode.

    Dropout of the body is set where ``recipe.dropout`` is given (convolutional kinds have none). Random
    weights (the head, low-rank updates, the whole body with ``init: scratch``) depend on ``seed`` alone, not
    on what was drawn before.

    Args:
        source: The pre-trained model.
        recipe: What is trained, the head, pooling, dropout, image size.
        level: ``example`` or ``token``. At token level pooling does not apply.
        num_outputs: Size of the logits.
        seed: All that random weights depend on.

    Raises:
        ModelError: The recipe asks for what the architecture does not have, or the weights do not fit.
    """
    family = families.get(source.model_type)
    # Whatever is drawn inside, the caller's own sequence of random numbers goes on undisturbed.
    with backbone.seeded(seed):
        return _build(source, family, recipe, level, num_outputs, seed)


def _build(
    source: Source, family: Family, recipe: Recipe, level: Level, num_outputs: int, seed: int
) -> Network:
    if recipe.init == "scratch":
        body = backbone.scratch(source, family, dropout=recipe.dropout, seed=seed)
    else:
        body = backbone.pretrained(source, family, dropout=recipe.dropout)
    config: Any = body.config
    if recipe.image_size and family.resizes_positions and recipe.image_size != config.image_size:
        backbone.resample_positions(body, family, recipe.image_size)
    if recipe.gradient_checkpointing:
        _checkpoint_activations(body, family)
    pooling = heads.resolve_pooling("native" if level == "token" else recipe.pooling, family, config)
    form = heads.resolve_head(recipe.head, family.head_form(level))
    width = _width(body, config) * (2 if level == "example" and pooling == "cls_mean" else 1)
    maker = HeadMaker(
        source, family, level, form, width, num_outputs, config, str(getattr(body, "base_model_prefix", "")),
        pooling,
    )  # fmt: skip
    head = maker.head(recipe, seed)
    adapt(body, family, recipe, seed=seed)
    return Network(
        body,
        head,
        maker,
        family=family,
        level=level,
        pooling=pooling,
        head_form=form,
        width=width,
        num_outputs=num_outputs,
    )


def _width(body: nn.Module, config: Any) -> int:
    if hasattr(config, "hidden_sizes"):
        return int(config.hidden_sizes[-1])
    if hasattr(body, "conv_1x1"):
        last = body.get_submodule("conv_1x1.convolution")
        assert isinstance(last, nn.Conv2d)
        return last.out_channels
    return int(config.hidden_size)


def _checkpoint_activations(body: Any, family: Family) -> None:
    if not family.checkpointing:
        raise ModelError(
            f"gradient_checkpointing does not fit a {family.model_type} model: no recomputing of blocks.",
            "Leave it off, or use accumulate to save memory.",
        )
    # The reentrant kind needs inputs with gradients; ours does not, and sends none through a frozen prefix.
    with backbone.quiet():
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    body.disable_input_require_grads()
