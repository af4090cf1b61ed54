"""The champion, earlier champions, and concurrent changes."""

import pytest

from tests.support.finished import FACTS
from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.errors import ConfigError, CorruptArtifact
from zeshel_tasks.store import Attempt, Store


def champion(run: str, trained: str | None = None) -> Champion:
    """The model of a run; ``trained`` is the run that trained its encoders, if that was another one."""
    trained = trained or run
    return Champion(
        run=run,
        biencoder=f"artifacts/train-biencoder/{trained}",
        crossencoder=f"artifacts/train-crossencoder/{trained}",
        retriever=f"artifacts/fit-retrieval/{run}",
        fusion=f"artifacts/fuse/{run}",
        calibration=f"artifacts/calibrate/{run}",
        promoted_at="2026-11-24T03:00:00+00:00",
        decision={"promoted": True, "reason": f"{run} is better"},
    )


def put_models(store: Store, champion: Champion) -> None:
    """Writes minimal manifests of the champion's artifacts, enough for a check that the models exist."""
    for folder in champion.folders:
        _, stage, fingerprint = folder.split("/")
        Attempt(store, folder).commit(FACTS | {"stage": stage, "fingerprint": fingerprint})


def promoted(store: Store, *runs: str) -> None:
    for run in runs:
        assert read_champions(store).promote(champion(run))


def test_empty_store_has_no_champion(store: Store) -> None:
    champions = read_champions(store)
    assert (champions.champion, champions.earlier, champions.folders) == (None, (), set())


def test_champions_are_kept_in_order_of_promotion(store: Store) -> None:
    promoted(store, "a", "b", "c")
    champions = read_champions(store)
    assert champions.champion == champion("c")
    assert champions.earlier == (champion("b"), champion("a"))
    assert champions.folders == {
        f"artifacts/{stage}/{run}"
        for stage in ("train-biencoder", "fit-retrieval", "train-crossencoder", "fuse", "calibrate")
        for run in "abc"
    }


def test_rival_is_the_champion_or_its_predecessor(store: Store) -> None:
    promoted(store, "a")
    assert read_champions(store).rival_of(champion("a").identity) is None
    promoted(store, "b")
    champions = read_champions(store)
    assert champions.rival_of(champion("new").identity) == champion("b")
    assert champions.rival_of(champion("b").identity) == champion("a")


@pytest.mark.parametrize("before", [(), ("a",)])
def test_second_of_two_concurrent_promotions_fails(store: Store, before: tuple[str, ...]) -> None:
    promoted(store, *before)
    one, other = read_champions(store), read_champions(store)
    assert one.promote(champion("one")) is True
    assert other.promote(champion("other")) is False
    assert read_champions(store).champion == champion("one")


def test_rollback_restores_the_previous_champion_and_keeps_the_reason(store: Store) -> None:
    promoted(store, "a", "b", "c")
    assert read_champions(store).roll_back("odd links") is True
    champions = read_champions(store)
    assert (champions.champion, champions.earlier) == (champion("b"), (champion("a"),))
    taken_back = champions.rolled_back(champion("c").crossencoder)
    assert taken_back is not None
    assert (taken_back.champion, taken_back.reason) == (champion("c"), "odd links")
    assert champions.rolled_back(champion("b").crossencoder) is None
    assert read_champions(store).roll_back("still odd") is True
    assert [found.champion.run for found in read_champions(store).all_rolled_back] == ["b", "c"]


def test_folders_exclude_rolled_back_models(store: Store) -> None:
    promoted(store, "a", "b")
    read_champions(store).roll_back("odd links")
    assert read_champions(store).folders == set(champion("a").folders)


def test_rollback_fails_after_a_concurrent_promotion(store: Store) -> None:
    promoted(store, "a", "b")
    champions = read_champions(store)
    promoted(store, "c")
    assert champions.roll_back("too late") is False
    assert read_champions(store).champion == champion("c")


@pytest.mark.parametrize(("runs", "got"), [((), "no champion"), (("a",), "the first champion, a")])
def test_rollback_without_an_earlier_champion_raises_config_error(
    store: Store, runs: tuple[str, ...], got: str
) -> None:
    promoted(store, *runs)
    with pytest.raises(ConfigError, match=rf"{KEY}: expected an earlier champion, got {got}"):
        read_champions(store).roll_back("why not")
    assert read_champions(store).champion == (champion("a") if runs else None)


def test_changed_byte_is_detected(store: Store) -> None:
    promoted(store, "a", "b")
    store.put(KEY, (store.get(KEY) or b"").replace(b'"run": "b"', b'"run": "x"'))
    with pytest.raises(CorruptArtifact, match=f"{KEY}.*restore an earlier version"):
        read_champions(store)


def test_model_promoted_again_is_not_among_earlier_champions(store: Store) -> None:
    promoted(store, "a", "b", "a")
    champions = read_champions(store)
    assert (champions.champion, champions.earlier) == (champion("a"), (champion("b"),))


def test_knows_the_champion_and_the_earlier_ones(store: Store) -> None:
    promoted(store, "a", "b", "c")
    assert read_champions(store).roll_back("odd links")
    champions = read_champions(store)
    assert [champions.knows(champion(run).identity) for run in "abcd"] == [True, True, False, False]


def test_other_final_score_is_another_model_of_the_same_encoders(store: Store) -> None:
    promoted(store, "a", "b")
    refitted = champion("c", trained="b")
    champions = read_champions(store)
    assert not champions.knows(refitted.identity)
    assert champions.rival_of(refitted.identity) == champion("b")
    assert champions.promote(refitted)
    assert read_champions(store).earlier == (champion("b"), champion("a"))
    read_champions(store).roll_back("odd links")
    assert read_champions(store).rolled_back(champion("d", trained="b").crossencoder), "it is the encoders' fault"


def test_champion_of_an_earlier_version_is_its_crossencoder_alone(store: Store) -> None:
    written = champion("a").model_dump(exclude={"retriever", "fusion", "calibration"})
    old = Champion.model_validate(written)
    assert old.folders == (old.biencoder, old.identity) == (written["biencoder"], written["crossencoder"])
    assert read_champions(store).promote(old)
    champions = read_champions(store)
    assert champions.champion == old
    assert champions.knows(old.crossencoder)
    assert champions.rival_of(champion("a").identity) == old
