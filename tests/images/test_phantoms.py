"""The phantom films: reproducible, in NIH's formats, their findings visible, and as alike as real chest films."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.phantoms import FINDINGS, count_films, draw_film, write_collection
from scarce_cxr.images.phantoms.anatomy import outline, sample_anatomy, sample_pose
from scarce_cxr.images.phantoms.findings import choose_findings, deform_anatomy

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Sixty small films and their entries."""
    out = tmp_path_factory.mktemp("phantoms")
    return out, write_collection(out, images=60, seed=5, size=64, jobs=1)


@pytest.fixture(scope="module")
def likeness() -> object:
    """The study that measures how alike films are."""
    path = Path(__file__).parents[2] / "studies" / "phantom_likeness.py"
    specification = importlib.util.spec_from_file_location("phantom_likeness", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_films_do_not_depend_on_how_many_or_on_jobs(collection: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    out, entries = collection
    write_collection(tmp_path, images=25, seed=5, size=64, jobs=2)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == sorted(entries["Image Index"][:25])
    for name in names:
        assert (tmp_path / "images" / name).read_bytes() == (out / "images" / name).read_bytes()


def test_another_seed_draws_other_films() -> None:
    assert not np.array_equal(draw_film(0, 1, 0, 64).pixels, draw_film(1, 1, 0, 64).pixels)


def test_entries_are_in_nih_format(collection: tuple[Path, pd.DataFrame]) -> None:
    out, entries = collection
    text = (out / "Data_Entry_2017.csv").read_text()
    assert text.splitlines()[0] == ENTRY_HEADER
    assert all(line.endswith(",") and line.count(",") == 11 for line in text.splitlines())
    read = pd.read_csv(out / "Data_Entry_2017.csv").iloc[:, :-1]
    pd.testing.assert_frame_equal(read, entries)
    assert read["Image Index"][0] == "00000001_000.png"
    assert set(read["Patient Gender"]) <= {"M", "F"}
    assert set(read["View Position"]) <= {"PA", "AP"}
    for labels in read["Finding Labels"]:
        assert labels == "No Finding" or set(labels.split("|")) <= set(FINDINGS)


def test_boxes_lie_within_nih_square(collection: tuple[Path, pd.DataFrame]) -> None:
    out, entries = collection
    lines = (out / "BBox_List_2017.csv").read_text().splitlines()
    assert lines[0] == BOX_HEADER
    labels = dict(zip(entries["Image Index"], entries["Finding Labels"], strict=True))
    boxed = set()
    for line in lines[1:]:
        name, finding, *numbers = line.split(",")
        left, top, width, height = map(float, numbers)
        assert min(left, top) >= 0
        assert min(width, height) > 0
        assert max(left + width, top + height) <= 1024.001
        assert finding in labels[name].split("|")
        boxed.add((name, finding))
    assert boxed == {(name, each) for name, text in labels.items() for each in text.split("|") if each != "No Finding"}


def test_sites_write_their_own_pixel_depth(collection: tuple[Path, pd.DataFrame]) -> None:
    out, entries = collection
    modes = {"A": "L", "B": "I;16"}
    seen = set()
    for name, patient, follow_up in zip(
        entries["Image Index"], entries["Patient ID"], entries["Follow-up #"], strict=True
    ):
        site = draw_film(5, patient, follow_up, 32).site
        with Image.open(out / "images" / name) as image:
            assert image.mode == modes[site]
            assert image.size == (64, 64)
        seen.add(site)
    assert seen == {"A", "B"}


def test_a_patients_films_are_more_alike_than_strangers() -> None:
    firsts, seconds = [], []
    for patient in [patient for patient in range(1, 120) if count_films(2, patient) > 1][:40]:
        firsts.append(draw_film(2, patient, 0, 64, findings=()).pixels.ravel())
        seconds.append(draw_film(2, patient, 1, 64, findings=()).pixels.ravel())
    correlations = np.corrcoef(np.stack(firsts), np.stack(seconds))[:40, 40:]
    own = np.diag(correlations).mean()
    others = correlations[~np.eye(40, dtype=bool)].mean()
    assert own > others + 0.06


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_changes_the_film_inside_its_box(finding: str) -> None:
    seen = 0
    for patient in (3, 8, 11):
        ill = draw_film(0, patient, 0, 128, findings=(finding,))
        healthy = draw_film(0, patient, 0, 128, findings=())
        assert healthy.findings == healthy.boxes == ()
        change = np.abs(ill.pixels - healthy.pixels)
        inside = np.zeros(change.shape, dtype=bool)
        for box in ill.boxes:
            assert box.finding == finding
            rows = slice(int(box.top), int(np.ceil(box.top + box.height)))
            inside[rows, int(box.left) : int(np.ceil(box.left + box.width))] = True
        # A finding beyond the film's edge is neither boxed nor reported.
        if ill.findings:
            seen += 1
            assert change[inside].max() > 0.06
            assert change[inside].mean() > 4 * change[~inside].mean()
    assert seen > 1


def test_cardiomegaly_is_a_heart_of_more_than_half_the_chest() -> None:
    ratios = {True: [], False: []}
    for patient in range(1, 30):
        anatomy, pose = sample_anatomy(0, patient), sample_pose(0, patient, 0)
        for ill in ratios:
            outlines = outline(deform_anatomy(anatomy, ("Cardiomegaly",) if ill else (), 0, patient), pose)
            heart = outlines.left.max() + outlines.right.max()
            ratios[ill].append(heart / (outlines.lateral[-1].max() + outlines.lateral[1].max()))
    assert min(ratios[True]) > 0.5
    assert np.mean(ratios[False]) < 0.5


def test_about_half_the_films_show_no_finding() -> None:
    shown = [choose_findings(0, patient, film) for patient in range(1, 700) for film in range(count_films(0, patient))]
    assert 0.42 < np.mean([not names for names in shown]) < 0.62
    assert {name for names in shown for name in names} == set(FINDINGS)
    assert any(len(names) > 1 for names in shown)


def test_films_are_as_alike_as_real_ones(likeness: object) -> None:
    films = [(patient, film) for patient in range(1, 130) for film in range(count_films(4, patient))][:300]
    numbers = likeness.measure_likeness(likeness.shrink(draw_film(4, *film, 96).pixels) for film in films)
    assert numbers["correlation"] == pytest.approx(0.51, abs=0.08)
    assert numbers["first_five"] == pytest.approx(0.61, abs=0.08)
    assert numbers["first_twenty"] == pytest.approx(0.83, abs=0.06)


@pytest.mark.parametrize("arguments", [{"images": 0}, {"size": 0}, {"size": -64}, {"seed": -1}, {"jobs": 0}])
def test_bad_arguments_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ScarceError):
        write_collection(tmp_path, **{"images": 1, "size": 64, "jobs": 1, **arguments})


def test_an_unknown_finding_is_refused() -> None:
    with pytest.raises(ScarceError, match="Scurvy"):
        draw_film(0, 1, 0, 64, findings=("Scurvy",))
