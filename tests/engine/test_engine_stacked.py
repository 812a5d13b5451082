from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_trials as trials
import models_tiny
import pytest
import torch

from luthier.engine import stacked
from luthier.engine.forward import place
from luthier.engine.layers import Stacked
from luthier.engine.noise import Noise, TrialDropout
from luthier.engine.stacked import Unstackable
from luthier.errors import ModelError
from luthier.models import cut, first_token, source
from luthier.models.families import FAMILIES

Tiny = Callable[[str], source.Source]

KINDS = [*models_tiny.TEXT, *models_tiny.IMAGE]
ADAPTATIONS = ["probe", "last_k", "bias", "lora", "full"]
# Tokens, scales and norms that are bare parameters, and a table that is looked up once for all rows.
APART = {
    "mpnet": ["full"],
    "vit": ["full"],
    "deit": ["full"],
    "dinov2": ["last_k", "full"],
    "convnext": ["last_k", "full"],
    "convnextv2": ["last_k", "bias", "full"],
}
IMPOSSIBLE = [("modernbert", "bias"), ("mobilenet_v2", "lora")]
POSSIBLE = [(kind, a) for kind in KINDS for a in ADAPTATIONS if (kind, a) not in IMPOSSIBLE]
TOGETHER = [(kind, adaptation) for kind, adaptation in POSSIBLE if adaptation not in APART.get(kind, [])]
# One of each kind of layer and of attention.
SOME = ["bert", "mpnet", "modernbert", "vit", "convnext", "resnet"]
LOW_RANK = [kind for kind in SOME if (kind, "lora") in TOGETHER]


@pytest.fixture(scope="session")
def tiny(tiny_model: Callable[[str], Path]) -> Tiny:
    return lambda kind: source.find(str(tiny_model(kind)), FAMILIES[kind].modality)


def assert_stacked_is_alone(found: source.Source, kind: str, adaptation: str, **options: Any) -> None:
    wanted, batches = trials.recipes(kind, adaptation), trials.batches(kind)
    weights = trials.states(found, wanted, options.get("level", "example"))
    stack = trials.together(found, wanted, weights, **options)
    alone = trials.each_alone(found, wanted, weights, **options)
    outputs = stack.backward(batches)
    for ours, each, batch in zip(outputs, alone, batches, strict=True):
        trials.assert_close(ours, each.backward([batch])[0])
    trials.assert_same_gradients(stack, alone)
    # Statistics of batches are the only thing that a forward pass changes.
    trials.assert_same_states(stack, alone)


@pytest.mark.parametrize(("kind", "adaptation"), TOGETHER)
def test_outputs_and_gradients_in_a_stack_are_those_alone(tiny: Tiny, kind: str, adaptation: str) -> None:
    assert_stacked_is_alone(tiny(kind), kind, adaptation)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("adaptation", ["last_k", "lora", "full"])
def test_one_answer_a_token(tiny: Tiny, kind: str, adaptation: str) -> None:
    assert_stacked_is_alone(tiny(kind), kind, adaptation, level="token")


@pytest.mark.parametrize("kind", [kind for kind, adaptation in TOGETHER if adaptation == "last_k"])
def test_a_cut_and_narrowed_network(tiny: Tiny, kind: str) -> None:
    def change(net: Any) -> None:
        cut.at(net, 1)
        first_token.narrow(net)

    found = tiny(kind)
    wanted, batches = trials.recipes(kind, "last_k"), trials.batches(kind)
    weights = trials.states(found, wanted)
    whole = trials.build(found, wanted[0]).eval()
    for batch in batches:
        with torch.no_grad():
            states = cut.capture(whole, [1], batch.inputs)[1]
        mask = {name: value for name, value in batch.inputs.items() if name == "attention_mask"}
        batch.inputs = {"states": states, **mask}
    stack = trials.together(found, wanted, weights, change=change)
    alone = trials.each_alone(found, wanted, weights, change=change)
    for ours, each, batch in zip(stack.backward(batches), alone, batches, strict=True):
        trials.assert_close(ours, each.backward([batch])[0])
    trials.assert_same_gradients(stack, alone)


@pytest.mark.parametrize(("kind", "adaptation"), [(k, a) for k, a in TOGETHER if k in SOME])
def test_in_eval_mode_nothing_is_drawn(tiny: Tiny, kind: str, adaptation: str) -> None:
    found, batches = tiny(kind), trials.batches(kind)
    wanted = trials.recipes(kind, adaptation)
    weights = trials.states(found, wanted)
    stack = trials.together(found, wanted, weights)
    stack.network.eval()
    before = repr(stack.noise.state())
    with torch.no_grad():
        outputs = stack.outputs(batches)
    assert repr(stack.noise.state()) == before
    for ours, recipe, state, batch in zip(outputs, wanted, weights, batches, strict=True):
        plain = trials.build(found, recipe)
        plain.load_trained_state(state)
        with torch.no_grad():
            trials.assert_close(ours, plain(**batch.inputs))


@pytest.mark.parametrize(("kind", "adaptation"), [(kind, a) for kind in APART for a in APART[kind]])
def test_what_cannot_be_stacked_is_left_as_it_is(tiny: Tiny, kind: str, adaptation: str) -> None:
    wanted = trials.recipes(kind, adaptation)
    net = trials.build(tiny(kind), wanted[0])
    modules, state, batch = list(net.modules()), net.trained_state(), trials.batches(kind)[0]
    before = net(**batch.inputs)
    with pytest.raises(Unstackable, match="backbone"):
        stacked.prepare(net, Noise([1, 2, 3], trials.CPU), wanted)
    assert all(a is b for a, b in zip(net.modules(), modules, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in net.trained_state().items())
    assert torch.equal(net(**batch.inputs), before)


@pytest.mark.parametrize(("kind", "adaptation"), [(k, a) for k, a in POSSIBLE if a in ("lora", "full")])
def test_alone_every_kind_trains_as_it_was_but_for_its_dropouts(
    tiny: Tiny, kind: str, adaptation: str
) -> None:
    """Without dropout the prepared network is the plain one."""
    still = {"dropout": 0.0, "head_dropout": 0.0, "lora_dropout": 0.0}
    recipe = trials.recipes(kind, adaptation)[0].model_copy(update=still)
    found, batch = tiny(kind), trials.batches(kind)[0]
    plain = trials.build(found, recipe)
    state = trials.started(plain, 3)
    plain.load_trained_state(state)
    place(plain, trials.CPU).train()
    one = trials.prepared(found, [recipe], [state], [3])
    assert not [module for module in one.network.modules() if isinstance(module, Stacked)]
    expected = plain(**batch.inputs)
    trials.assert_close(one.backward([batch])[0], expected)
    ((expected + 1) ** 2).mean().backward()
    for name, parameter in plain.trainable().items():
        found_gradient = one.network.trainable()[name].grad
        assert (found_gradient is None) == (parameter.grad is None)
        if parameter.grad is not None:
            trials.assert_close(found_gradient, parameter.grad, name)


def test_stochastic_depth_is_for_one_trial(tmp_path: Path) -> None:
    folder = models_tiny.write("dinov2", tmp_path / "deep", drop_path_rate=0.2)
    found = source.find(str(folder), "image")
    wanted = trials.recipes("dinov2", "lora")
    with pytest.raises(Unstackable, match="Stochastic depth"):
        stacked.prepare(trials.build(found, wanted[0]), Noise([1, 2, 3], trials.CPU), wanted)
    stacked.prepare(trials.build(found, wanted[0]), Noise([1], trials.CPU), wanted[:1])


@pytest.mark.parametrize("kind", ["bert", "vit"])
@pytest.mark.parametrize("wanted", ["one", "all"])
def test_recomputed_activations_draw_what_they_drew(tiny: Tiny, kind: str, wanted: str) -> None:
    found, batches = tiny(kind), trials.batches(kind)
    gradients = []
    for saving in (False, True):
        recipes = trials.recipes(kind, "lora", gradient_checkpointing=saving)
        weights = trials.states(found, recipes)
        count = 1 if wanted == "one" else 3
        stack = trials.prepared(found, recipes[:count], weights[:count], [5, 6, 7][:count])
        stack.backward(batches[:count])
        # The second step begins where the first ended, whatever was drawn again.
        stack.backward(batches[:count])
        gradients.append([g for each in stacked.gradients(stack.network) for g in each.values()])
    for ours, theirs in zip(*gradients, strict=True):
        trials.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["bert", "resnet", "mobilenet_v2"])
def test_rows_share_memory_wherever_the_network_goes(tiny: Tiny, kind: str) -> None:
    wanted = trials.recipes(kind, "full")
    found = tiny(kind)
    weights = trials.states(found, wanted)
    stack = trials.together(found, wanted, weights)
    rows = stacked.rows(stack.network)
    with torch.inference_mode():
        place(stack.network, trials.CPU).eval()
    with torch.no_grad():
        for index, row in enumerate(rows):
            for parameter in row.values():
                parameter.add_(index + 1)
    for index, (row, state, before) in enumerate(zip(rows, stack.states(), weights, strict=True)):
        assert set(row) == set(trials.build(found, wanted[index]).trainable())
        for name in row:
            torch.testing.assert_close(state[name], before[name] + index + 1)
            if state[name].ndim == 4:
                assert row[name].is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize(("kind", "adaptation"), [(k, a) for k, a in TOGETHER if k in SOME])
def test_a_trials_state_comes_out_as_it_went_in(tiny: Tiny, kind: str, adaptation: str) -> None:
    wanted = trials.recipes(kind, adaptation)
    weights = trials.states(tiny(kind), wanted)
    stack = trials.together(tiny(kind), wanted, weights)
    for found, expected in zip(stack.states(), weights, strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    # Each went to its own place, and a trial alone can go on with it.
    alone = trials.prepared(tiny(kind), wanted[2:], stack.states()[2:], [0])
    assert all(torch.equal(value, weights[2][name]) for name, value in alone.states()[0].items())


def test_a_state_of_another_network_is_refused(tiny: Tiny) -> None:
    found = tiny("bert")
    wanted = trials.recipes("bert", "last_k")
    other = trials.build(found, trials.recipes("bert", "bias")[0]).trained_state()
    for count in (1, 3):
        stack = trials.prepared(found, wanted[:count], [], [1, 2, 3][:count])
        with pytest.raises(ModelError, match="another network"):
            stacked.load(stack.network, count - 1, other)


def test_what_is_frozen_is_there_once(tiny: Tiny) -> None:
    wanted = trials.recipes("bert", "lora")
    net = trials.build(tiny("bert"), wanted[1])
    frozen = {name: p for name, p in net.named_parameters() if not p.requires_grad}
    trained = net.trainable()
    stacked.prepare(net, Noise([1, 2, 3], trials.CPU), wanted)
    own = dict(net.named_parameters())
    assert all(own[name] is parameter for name, parameter in frozen.items())
    assert {name: p.shape for name, p in net.trainable().items()} == {
        name: (3, *p.shape) for name, p in trained.items()
    }


@pytest.mark.parametrize("kind", LOW_RANK)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_updates_of_other_ranks_stay_apart(tiny: Tiny, kind: str, optimizer: Any) -> None:
    """Each row is filled up with zeros, which no step moves; and the steps are those taken alone."""
    wanted, batches, found = trials.recipes(kind, "lora"), trials.batches(kind), tiny(kind)
    # As they start, with one half zero: the larger rate takes even a step by rounding's noise too far.
    weights = [trials.build(found, recipe, k).trained_state() for k, recipe in enumerate(wanted)]
    stack = trials.together(found, wanted, weights)
    alone = trials.each_alone(found, wanted, weights)
    steps(stack, batches, optimizer)
    for each, batch in zip(alone, batches, strict=True):
        steps(each, [batch], optimizer)
    trials.assert_same_states(stack, alone)
    for row, recipe in zip(stacked.rows(stack.network), wanted, strict=True):
        updates = {name: value for name, value in row.items() if ".lora_" in name}
        assert updates
        for name, value in updates.items():
            axis = 0 if ".lora_A." in name else 1
            assert value.shape[axis] == 4
            kept = value.narrow(axis, 0, recipe.lora_rank)
            filling = value.narrow(axis, recipe.lora_rank, 4 - recipe.lora_rank)
            assert bool(kept.any()) and not bool(filling.any())


@pytest.mark.parametrize("kind", ["resnet", "mobilenet_v2", "distilbert"])
def test_steps_of_a_whole_network(tiny: Tiny, kind: str) -> None:
    """Weights, and statistics of batches, after some steps."""
    wanted, batches, found = trials.recipes(kind, "full"), trials.batches(kind), tiny(kind)
    weights = trials.states(found, wanted)
    stack = trials.together(found, wanted, weights)
    alone = trials.each_alone(found, wanted, weights)
    steps(stack, batches, torch.optim.SGD)
    for each, batch in zip(alone, batches, strict=True):
        steps(each, [batch], torch.optim.SGD)
    trials.assert_same_states(stack, alone)
    counts = [name for name in stack.states()[0] if name.endswith("num_batches_tracked")]
    for index, state in enumerate(stack.states()):
        assert all(state[name] == index + 3 for name in counts)


def steps(stack: trials.Prepared, batches: Any, optimizer: Any) -> None:
    """Three, each trial at a rate of its own."""
    rows = stacked.rows(stack.network)
    rates = [[0.01, 0.02, 0.005][seed - 100] for seed in stack.noise.seeds]
    optimizers = [optimizer(row.values(), lr=rate) for row, rate in zip(rows, rates, strict=True)]
    for _ in range(3):
        stack.backward(batches)
        for row, found, each in zip(rows, stacked.gradients(stack.network), optimizers, strict=True):
            for name, parameter in row.items():
                parameter.grad = found.get(name)
            each.step()
        stack.network.zero_grad()


def test_every_dropout_has_the_rates_of_the_recipes(tiny: Tiny) -> None:
    wanted = trials.recipes("distilbert", "lora")
    alone = trials.prepared(tiny("distilbert"), wanted[2:], [], [0]).network
    stack = trials.together(tiny("distilbert"), wanted, []).network
    for net, place_of in ((alone, slice(2, 3)), (stack, slice(0, 3))):
        for name, module in net.named_modules():
            assert not isinstance(module, torch.nn.Dropout)
            if not isinstance(module, TrialDropout):
                continue
            setting = "head_dropout" if name.startswith("head.") else "dropout"
            setting = "lora_dropout" if ".lora_dropout." in name else setting
            assert module.rates == [getattr(recipe, setting) for recipe in wanted[place_of]], name


def test_without_a_rate_the_models_own_holds(tmp_path: Path) -> None:
    folder = models_tiny.write("bert", tmp_path / "own", hidden_dropout_prob=0.3)
    found = source.find(str(folder), "text")
    wanted = [recipe.model_copy(update={"dropout": None}) for recipe in trials.recipes("bert", "last_k")]
    stack = trials.together(found, wanted, [])
    assert stack.network.backbone.get_submodule("encoder.layer.1.output.dropout").rates == [0.3] * 3  # type: ignore[union-attr]
    probabilities = stack.network.backbone.get_submodule("encoder.layer.1.attention.self.dropout")
    assert probabilities.rates == [0.1] * 3  # type: ignore[union-attr]
