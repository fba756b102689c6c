"""What other libraries call things: their names of settings, and the keys that stand for them here."""

from __future__ import annotations

from collections.abc import Mapping

# Names of TRL, transformers, PEFT and verl. Only those that spelling alone does not lead to the right key; the table in
# docs/method.md says how they differ.
KEYS: Mapping[str, tuple[str, ...]] = {
    # TRL
    "num_generations": ("rollout.group_size",),
    "generation_batch_size": ("data.batch_size",),
    "max_completion_length": ("rollout.max_new_tokens",),
    "temperature": ("rollout.temperature",),
    "beta": ("objective.kl_coef",),
    "num_iterations": ("objective.epochs",),
    "epsilon": ("objective.clip_low",),
    "epsilon_high": ("objective.clip_high",),
    "scale_rewards": ("objective.scale",),
    "loss_type": ("objective.normaliser",),
    "rollout_func": ("attacker", "tutor"),
    "reward_funcs": ("reward",),
    # transformers
    "learning_rate": ("optim.lr",),
    "warmup_ratio": ("optim.warmup",),
    "warmup_steps": ("optim.warmup",),
    "lr_scheduler_type": ("optim.schedule",),
    "num_train_epochs": ("trainer.max_epochs",),
    "per_device_train_batch_size": ("data.batch_size", "hardware.micro_tokens"),
    "gradient_accumulation_steps": ("data.batch_size",),
    "bf16": ("model.dtype=bfloat16",),
    "model_name_or_path": ("model",),
    "output_dir": ("hydra.run.dir",),
    "save_steps": ("callbacks.checkpoint.every_n_steps",),
    "eval_steps": ("trainer.val_check_interval",),
    "logging_steps": ("trainer.log_every_n_steps",),
    "report_to": ("logger",),
    "resume_from_checkpoint": ("ckpt_path",),
    # PEFT and bitsandbytes
    "r": ("model.lora.r",),
    "lora_r": ("model.lora.r",),
    "lora_alpha": ("model.lora.alpha",),
    "lora_dropout": ("model.lora.dropout",),
    "target_modules": ("model.lora.targets",),
    "load_in_4bit": ("model.quantize=nf4",),
    # verl
    "actor_rollout_ref.rollout.n": ("rollout.group_size",),
    "actor_rollout_ref.rollout.temperature": ("rollout.temperature",),
    "train_batch_size": ("data.batch_size",),
    "max_response_length": ("rollout.max_new_tokens",),
    "kl_loss_coef": ("objective.kl_coef",),
    "kl_loss_type": ("objective.kl_estimator",),
    "ppo_epochs": ("objective.epochs",),
    "clip_ratio_low": ("objective.clip_low",),
    "clip_ratio_high": ("objective.clip_high",),
    "norm_adv_by_std_in_grpo": ("objective.scale",),
    "loss_agg_mode": ("objective.normaliser",),
    "ppo_max_token_len_per_gpu": ("hardware.micro_tokens",),
    "lr_warmup_steps": ("optim.warmup",),
    "lr_warmup_steps_ratio": ("optim.warmup",),
    "lora_rank": ("model.lora.r",),
    "trainer.total_epochs": ("trainer.max_epochs",),
    "trainer.n_gpus_per_node": ("trainer.devices",),
    "trainer.test_freq": ("trainer.val_check_interval",),
    "trainer.save_freq": ("callbacks.checkpoint.every_n_steps",),
    "trainer.resume_from_path": ("ckpt_path",),
    "trainer.default_local_dir": ("hydra.run.dir",),
}


def keys_here(typed: str) -> tuple[str, ...]:
    """Return the keys that stand here for another library's name, or none. verl's names may be typed in full."""
    return KEYS.get(typed) or KEYS.get(typed.rpartition(".")[2], ())
