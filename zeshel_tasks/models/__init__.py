"""Builds, loads and saves both encoders."""

from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

# Bars that redraw themselves fill a pod's log. We log progress lines instead.
disable_progress_bar()
disable_progress_bars()
