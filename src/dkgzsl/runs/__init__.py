"""Run folders: what a training run leaves behind and what reads it again."""
