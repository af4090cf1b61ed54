"""Builds, loads and saves both encoders."""

from zeshel_tasks.download.hub_settings import check_timeouts


def _set_up_libraries() -> None:
    check_timeouts()  # before these imports, which read them
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    # Bars that redraw themselves fill a pod's log. We log progress lines instead.
    disable_progress_bar()
    disable_progress_bars()


_set_up_libraries()
