"""`generator=llm`: both stages through any server that speaks OpenAI's protocol.

Stage I takes four steps (SaFeR-Steer, stage I): look at the picture for usable detail; rewrite the request under a
framing; plan an escalating dialogue under a dialogue strategy; judge the attack on the target's answers. Kinds other
than red_team take only the look and the plan. The prompts describe ways of asking, never anything that could be asked
for, and say that a user turn holds no knowledge of its own. Text of a model enters the next prompt fenced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from typing import Any

from steer_lit.chat import ChatClient, greet_all
from steer_lit.data.images import open_image
from steer_lit.digests import digest
from steer_lit.mini_world import FRAMINGS, STRATEGIES
from steer_lit.prompts.ask import Sampling
from steer_lit.prompts.fill import Prompt, fence
from steer_lit.prompts.pictures import MAX_SENT_PIXELS, PngPictures
from steer_lit.prompts.transcript import everything, history, pictures
from steer_lit.synthesis.asking import RowAsker, RowAttacker, RowPolicy, RowTutor
from steer_lit.synthesis.generator import Generator, SeedQuestion, Tactic
from steer_lit.synthesis.settings import picture_folder
from steer_lit.synthesis.shapes import LookReply, RewriteReply, plan_of, scores_of
from steer_lit.synthesis.starts import mini_seed_questions
from steer_lit.types import Attack, Kind, Message, Scenario, Trajectory

PROMPTS = (
    "synthesis_system", "synthesis_look", "synthesis_rewrite", "synthesis_plan_red_team", "synthesis_plan_obfuscated",
    "synthesis_plan_benign", "synthesis_judge_attack", "synthesis_blue", "synthesis_form", "attacker_system",
    "attacker_user", "tutor_system", "tutor_user", "repair",
)  # fmt: skip


def llm_generator(
    name: str,
    client: ChatClient,
    target: ChatClient,
    system_prompt: str,
    data: Mapping[str, Any],
    seed: int,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    max_pixels: int = MAX_SENT_PIXELS,
) -> Generator:
    """Return the generator whose agents and judges are `client`'s model and whose target is `target`'s.

    `data` says where pictures lie (`settings.picture_folder`). Without a file of seeds, STEER-mini's questions by
    `seed` are used. Agents write at `temperature`; target and judges answer at 0.
    """
    client.place, target.place = "generator.client", "generator.target"
    look_up = partial(open_image, root=picture_folder(data))
    shown = PngPictures(look_up, max_pixels)
    writing, judging = Sampling(temperature, max_tokens), Sampling(0.0, max_tokens)

    @cache  # once, whether one stage asks or both
    def greet() -> None:
        greet_all([client, target])

    def stop() -> None:
        client.stop()
        target.stop()

    guidelines = Prompt.load("synthesis_blue").fill(system_prompt=system_prompt)
    tactics = digest(json.dumps([FRAMINGS, STRATEGIES]), 12)  # these lines are part of prompts
    return Generator(
        seed_questions=partial(mini_seed_questions, seed),
        write=partial(_llm_script, RowAsker(client, shown, writing)),
        target=RowPolicy("target", target, shown, None, False, judging),
        score_attack=partial(attack_scores, RowAsker(client, shown, judging)),
        red=RowAttacker(
            client, look_up, extra_turns=0, max_tokens=max_tokens, temperature=temperature, max_pixels=max_pixels
        ),
        blue=RowPolicy("blue agent", client, shown, guidelines, True, writing),
        tutor=RowTutor(client, look_up, max_tokens=max_tokens, max_pixels=max_pixels),
        identity={
            "generator": name,
            "model": client.settings.model,
            "structured": client.settings.structured,
            "target": target.settings.model,
            "temperature": f"{temperature:g}",
            "max_tokens": str(max_tokens),
            "max_pixels": str(max_pixels),
            "system_prompt": system_prompt,
            "prompts": {"tactics": tactics, **{prompt: Prompt.load(prompt).digest for prompt in PROMPTS}},
        },
        workers=client.settings.concurrency,
        greet=greet,
        stop=stop,
        usage=lambda: {"agents and judges": asdict(client.usage), "target": asdict(target.usage)},
    )


def _llm_script(asker: RowAsker, asked: SeedQuestion, kind: Kind, tactic: Tactic, sampling_seed: int) -> Scenario:
    """Write a script, steps 1 to 3 of Stage I: look, rewrite (red_team), plan. Raises RowEnds."""
    details = _look(asker, asked, sampling_seed) if asked.image is not None else "(there is no picture)"
    pressed = kind == "red_team"
    request = _rewrite(asker, asked, details, tactic, sampling_seed) if pressed else asked.question
    opening, *later = _plan(asker, request, details, kind, tactic, sampling_seed)
    pictured = [] if asked.image is None else [asked.image]
    framing, strategy = (tactic.framing, tactic.strategy) if pressed else ("direct", "direct")
    named = strategy if pressed else "scripted"
    return Scenario(
        id=asked.id,
        kind=kind,
        opening=Attack(Message.of("user", *pictured, opening), strategy=named),
        scripted=tuple(Attack(Message.of("user", turn), strategy=named) for turn in later),
        metadata={"intent": asked.question, "framing": framing, "strategy": strategy},
    )


def _look(asker: RowAsker, asked: SeedQuestion, sampling_seed: int) -> str:
    assert asked.image is not None
    text = Prompt.load("synthesis_look").fill(question=fence(asked.question))
    reply = asker.ask("look", LookReply, text, sampling_seed, [asked.image], shown=asked.question)
    return fence("\n".join(reply.details) or "(nothing of use)")


def _rewrite(asker: RowAsker, asked: SeedQuestion, details: str, tactic: Tactic, sampling_seed: int) -> str:
    text = Prompt.load("synthesis_rewrite").fill(
        framing=FRAMINGS[tactic.framing], question=fence(asked.question), details=details
    )
    shown = f"{asked.question}\n{details}"
    return asker.ask("rewrite", RewriteReply, text, sampling_seed, shown=shown).intent


def _plan(asker: RowAsker, request: str, details: str, kind: Kind, tactic: Tactic, sampling_seed: int) -> list[str]:
    fields = {"turns": str(tactic.turns), "question": fence(request), "details": details}
    if kind == "red_team":
        fields["strategy"] = STRATEGIES[tactic.strategy]
    text = Prompt.load(f"synthesis_plan_{kind}").fill(**fields)
    shown = f"{request}\n{details}"
    return asker.ask("plan", plan_of(tactic.turns), text, sampling_seed, shown=shown).turns


def attack_scores(asker: RowAsker, request: str, trajectory: Trajectory) -> list[int]:
    """Score an attack, step 4 of Stage I. The judge sees the answer parts, as a user would."""
    turns = trajectory.turns
    text = Prompt.load("synthesis_judge_attack").fill(
        turns=str(len(turns)), question=fence(request), dialogue=history(turns, "answer")
    )
    shown = f"{request}\n{everything(turns)}"
    reply = asker.ask("judge the attack", scores_of(len(turns)), text, trajectory.seed, pictures(turns), shown=shown)
    return list(reply.scores)
