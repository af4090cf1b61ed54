import pytest

from zeshel_tasks.report.curves import MOST_POINTS, ThinPoint, thin_curve
from zeshel_tasks.training.metrics import CurvePoint


def _losses(*pairs: tuple[int, float]) -> list[CurvePoint]:
    return [CurvePoint(step=step, epoch=step / 10, loss=loss) for step, loss in pairs]


def test_short_curve_keeps_every_point() -> None:
    curve = thin_curve(_losses((1, 0.1), (2, 0.7)))
    assert curve.loss == (ThinPoint(1, 0.1, 0.1, 0.1, 0.1), ThinPoint(2, 0.2, 0.7, 0.7, 0.7))
    assert curve.validation == ()


@pytest.mark.parametrize("points", [0, 1, MOST_POINTS, MOST_POINTS + 1, 5000])
def test_thin_curve_never_exceeds_point_limit(points: int) -> None:
    thin = thin_curve(_losses(*((step, 1.0) for step in range(points)))).loss
    assert len(thin) <= MOST_POINTS
    assert bool(thin) == bool(points)


def test_thinning_keeps_mean_lowest_and_highest() -> None:
    thin = thin_curve(_losses((1, 1.0), (2, 3.0), (3, 8.0), (4, 0.0)), most=2).loss
    assert [(point.step, point.value, point.lowest, point.highest) for point in thin] == [
        (1.5, 2.0, 1.0, 3.0),
        (3.5, 4.0, 0.0, 8.0),
    ]


@pytest.mark.parametrize("measure", ["valid_recall", "valid_accuracy"])
def test_step_validated_twice_keeps_latest_figure(measure: str) -> None:
    rates = [(10, 0.5), (20, 0.6), (20, 0.7)]
    points = [CurvePoint.model_validate({"step": step, "epoch": step / 20, measure: rate}) for step, rate in rates]
    curve = thin_curve(points)
    assert [(point.step, point.value) for point in curve.validation] == [(10, 0.5), (20, 0.7)]
    assert curve.validation == getattr(curve, measure)


def test_loss_and_validation_accuracy_of_one_step_are_separate() -> None:
    points = [*_losses((10, 0.4)), CurvePoint(step=10, epoch=1.0, valid_accuracy=0.8)]
    curve = thin_curve(points)
    assert (curve.loss[0].value, curve.valid_accuracy[0].value) == (0.4, 0.8)
