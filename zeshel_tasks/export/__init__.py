"""Writes the models of a run in the formats of other programs."""

import zeshel_tasks.models  # noqa: F401  # checks the variables of huggingface_hub before it is imported
