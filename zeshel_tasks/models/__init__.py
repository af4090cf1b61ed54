"""Both encoders: building, loading and saving them."""

from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

# A bar that redraws itself fills a pod's log; ours are progress lines.
disable_progress_bar()
disable_progress_bars()
