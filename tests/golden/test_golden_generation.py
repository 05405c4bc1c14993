"""KTN, MFU, generator, critic and gradient penalty against the released code's numbers."""

import torch
from reference import Golden, assert_golden
from torch import Tensor

from dkgzsl.methods.dkgzsl.networks import Generator, Guidance, KnowledgeTransfer, MetaFusion, reconstruction_loss
from dkgzsl.methods.shared.critic import Critic, Penalty, gradient_penalty, weight_derivatives


def described(golden: Golden) -> Tensor:
    return golden["semantics"][golden["labels"]]


def sizes(golden: Golden) -> tuple[int, int, int]:
    """Semantic, hidden and visual size of a file."""
    hidden, semantic = golden["ktn.fc2.weight"].shape
    return semantic, hidden, golden["real"].shape[1]


def knowledge_transfer(golden: Golden) -> KnowledgeTransfer:
    network = KnowledgeTransfer(*sizes(golden))
    names = {"hidden": "fc2", "visual": "fc4"}
    golden.load(network, {f"{n}.{p}": f"ktn.{t}.{p}" for n, t in names.items() for p in ("weight", "bias")})
    return network


def meta_fusion(golden: Golden) -> MetaFusion:
    fusion = MetaFusion(*sizes(golden))
    names = {"hidden.scale": "mfu.bias1", "visual.scale": "mfu.bias2"}
    for level, number in (("hidden", 1), ("visual", 2)):
        for part in ("weight", "bias"):
            names[f"{level}.semantic.{part}"] = f"mfu.fc{number}.{part}"
            names |= {f"{level}.knowledge.{i}.{part}": f"mfu.net_feat{number}.{i}.{part}" for i in (0, 2)}
    golden.load(fusion, names)
    return fusion


def generator(golden: Golden) -> Generator:
    semantic, hidden, visual = sizes(golden)
    noise = golden["noise"].shape[1]
    made = Generator(noise, semantic, hidden, visual)
    joint = golden["generator.fc1.weight"]
    golden.load(
        made,
        {
            "noise.weight": joint[:, :noise],
            "semantic.weight": joint[:, noise:],
            "semantic.bias": "generator.fc1.bias",
            "visual.weight": "generator.fc3.weight",
            "visual.bias": "generator.fc3.bias",
        },
    )
    return made


def critic(golden: Golden) -> Critic:
    semantic, hidden, visual = sizes(golden)
    made = Critic(visual, semantic, hidden)
    joint = golden["critic.fc1.weight"]
    golden.load(
        made,
        {
            "visual.weight": joint[:, :visual],
            "semantic.weight": joint[:, visual:],
            "semantic.bias": "critic.fc1.bias",
            "score.weight": "critic.fc2.weight",
            "score.bias": "critic.fc2.bias",
        },
    )
    return made


def guidance(golden: Golden, *, training: bool) -> Guidance:
    fusion = meta_fusion(golden)
    terms = fusion.semantic_terms(described(golden)) if training else None
    weight = float(golden.metadata.get("fusion_weight", "0.1"))
    return fusion(knowledge_transfer(golden)(described(golden)), terms, weight=weight)


def penalty(golden: Golden) -> Penalty:
    made = critic(golden)
    alpha = golden["gp.alpha"]
    interpolate = alpha * golden["real"] + (1 - alpha) * golden["generator.out.guided_train"]
    with torch.no_grad():
        return gradient_penalty(
            made.visual(interpolate) + made.semantic(described(golden)),
            made.visual.weight,
            made.score.weight[0],
            penalty_weight=float(golden.metadata.get("gp_lambda", "10")),
        )


def test_golden_knowledge(golden: Golden) -> None:
    knowledge = knowledge_transfer(golden)(described(golden))
    assert_golden(knowledge.hidden, golden["ktn.out.hidden"])
    assert_golden(knowledge.visual, golden["ktn.out.output_preactivation"])
    assert_golden(knowledge.visual.sigmoid(), golden["ktn.out.reconstruction"])
    assert_golden(reconstruction_loss(knowledge.visual, golden["real"]), golden["ktn.out.loss_bce_sum_over_batch"])


def test_golden_meta_fusion_in_training(golden: Golden) -> None:
    fusion = meta_fusion(golden)
    knowledge = knowledge_transfer(golden)(described(golden))
    terms = fusion.semantic_terms(described(golden))
    assert_golden(fusion.hidden(knowledge.hidden, terms.hidden), golden["mfu.out.train.level1"])
    assert_golden(fusion.visual(knowledge.visual, terms.visual), golden["mfu.out.train.level2"])


def test_golden_meta_fusion_at_synthesis(golden: Golden) -> None:
    fusion = meta_fusion(golden)
    knowledge = knowledge_transfer(golden)(described(golden))
    assert_golden(fusion.hidden(knowledge.hidden, None), golden["mfu.out.synthesis.level1"])
    assert_golden(fusion.visual(knowledge.visual, None), golden["mfu.out.synthesis.level2"])


def test_golden_generator(golden: Golden) -> None:
    made = generator(golden)
    part = made.semantic(described(golden))
    assert_golden(made(golden["noise"], part), golden["generator.out.plain"])
    trained = made(golden["noise"], part, guidance(golden, training=True))
    assert_golden(trained, golden["generator.out.guided_train"])
    synthesized = made(golden["noise"], part, guidance(golden, training=False))
    assert_golden(synthesized, golden["generator.out.guided_synthesis"])


def test_golden_critic(golden: Golden) -> None:
    made = critic(golden)
    part = made.semantic(described(golden))
    assert_golden(made(golden["real"], part), golden["critic.out.real"])
    assert_golden(made(golden["generator.out.guided_train"], part), golden["critic.out.fake"])


def test_golden_gradient_penalty(golden: Golden) -> None:
    found = penalty(golden)
    weight = float(golden.metadata.get("gp_lambda", "10"))
    assert_golden(found.gradient, golden["gp.out.gradient"])
    assert_golden(weight * found.mean, golden["gp.out.penalty_lambda10"])


def test_golden_gradient_penalty_derivatives(golden: Golden) -> None:
    found, made = penalty(golden), critic(golden)
    with torch.no_grad():
        by_visual, by_score = weight_derivatives(
            found.slopes, found.pulls, made.visual.weight, made.score.weight[0]
        )
    visual = golden["real"].shape[1]
    expected = golden["gp.out.dpenalty_dfc1_weight"]
    assert_golden(by_visual, expected[:, :visual])
    # the penalty has no term with the weights on the description
    assert_golden(torch.zeros_like(expected[:, visual:]), expected[:, visual:])
    assert_golden(by_score, golden["gp.out.dpenalty_dfc2_weight"].reshape(-1))
