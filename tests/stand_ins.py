"""Small things that words of the documentation stand for: films, stores, runs, trials, a model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tests.test_recipes import options

from scarce_cxr.cli import main
from scarce_cxr.commands.recipes import find_recipe
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import NihSource
from scarce_cxr.images.store import Store
from scarce_cxr.images.writer import Plan, StoreWriter

SIDE = 64
PATIENTS = 110
FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Pneumonia")
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
# Where a command's words name what it writes, or no thing at all: which of those before the options, and behind which
# options.
_WRITTEN = {"export": 1, "fetch": 0, "merge": -1, "phantom": 0, "prepare": 1}
_KEPT_OPTIONS = {"--folder", "--into", "--kind", "--out", "--overlays", "--run"}


class StandIns:
    """What words stand for, made when it is first asked for.

    Args:
        base: the folder that everything is made in.
    """

    def __init__(self, base: Path) -> None:
        self._base, self._made = base, dict[str, Path]()
        self._makers: dict[str, Callable[[Path], object]] = {
            "films": make_films,
            "store": lambda path: make_store(path, self.path("films"), base / "key"),
            "other": make_other_store,
            "both": lambda path: main(["merge", str(self.path("store")), str(self.path("other")), str(path)]),
            "features.npy": lambda path: np.save(path, np.random.default_rng(0).normal(size=(PATIENTS, 16))),
            "trials": lambda path: make_trials(path, self.path("moco"), self.path("store")),
            "model": lambda path: make_model(path, self.path("dino"), self.path("store")),
        }
        for recipe in ("spark", "moco", "dino", "barlow_twins"):
            self._makers[recipe] = lambda path, recipe=recipe: make_run(path, f"small/{recipe}", self.path("store"))
        self._words = {
            **dict.fromkeys(("FILMS", "films", "nih"), "films"),
            **dict.fromkeys(("STORE", "nih-store", "ward-store"), "store"),
            **dict.fromkeys(("clinic-store", "padchest-store", "rsna-store"), "other"),
            "both-store": "both",
            **dict.fromkeys(("RUN", "RUN1", "runs/first"), "spark"),
            **dict.fromkeys(("RUN2", "runs/moco"), "moco"),
            "RUN3": "dino",
            "runs/dino": "dino",
            "runs/barlow": "barlow_twins",
            **dict.fromkeys(("trials", "TRIALS"), "trials"),
            **dict.fromkeys(("MODEL", "model"), "model"),
            **dict.fromkeys(("A.npy", "B.npy", "C.npy"), "features.npy"),
        }

    def path(self, name: str) -> Path:
        """The thing of that name."""
        if name not in self._made:
            self._makers[name](self._base / name)
            self._made[name] = self._base / name
        return self._made[name]

    def film(self) -> Path:
        """One film."""
        return next(self.path("films").rglob("*.png"))

    def settle(self, words: Sequence[str]) -> list[str]:
        """A command's words with the things' paths in their places; what it writes keeps its name."""
        count = next((n for n, word in enumerate(words[1:]) if word.startswith("-")), len(words) - 1)
        written = {_WRITTEN[words[0]] % count + 1} if words[0] in _WRITTEN and count else set()
        kept = {0, *written, *(n + 1 for n, word in enumerate(words) if word in _KEPT_OPTIONS)}
        return [word if n in kept else self._settle(word) for n, word in enumerate(words)]

    def _settle(self, word: str) -> str:
        if word == "RECIPE":
            return "small/moco"
        if word in ("FILM", "a.png", "b.png"):
            return str(self.film())
        label, equals, name = word.rpartition("=")
        if label.startswith("-"):
            return word
        for known in sorted(self._words, key=len, reverse=True):
            rest = name.removeprefix(known)
            if rest != name and (not rest or rest[0] in "./:"):
                return f"{label}{equals}{self.path(self._words[known])}{rest}"
        return word


def make_films(folder: Path) -> None:
    """Films in NIH's layout, one a patient, each with a finding or more on every other patient."""
    generator, rows = np.random.default_rng(0), [_HEADER]
    for patient in range(1, PATIENTS + 1):
        name, place = f"{patient:08d}_000.png", folder / "images" / f"P{patient:04d}"
        place.mkdir(parents=True)
        shown = [finding for finding in FINDINGS if generator.random() < 0.5]
        film = generator.normal(120, 40, (SIDE, SIDE)) + 60 * (np.hypot(*np.indices((SIDE, SIDE)) - 32) < 20)
        Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(place / name)
        findings, sex, view = "|".join(shown) or "No Finding", "FM"[patient % 2], ("PA", "AP")[patient % 3 == 0]
        rows.append(f"{name},{findings},0,{patient},0{20 + patient % 60}Y,{sex},{view},1024,1024,0.143,0.143")
    (folder / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n")


def make_store(path: Path, films: Path, key: Path) -> None:
    """A store of these films; with a key of its own it would be split otherwise every time."""
    key.write_text("5c" * 32)
    prepare(NihSource(films), path, size=SIDE, jobs=1, key_file=key)


def make_other_store(path: Path) -> None:
    """A store of 24 films of another source."""
    pixels = np.random.default_rng(1).integers(0, 256, (24, SIDE, SIDE), dtype=np.uint8)
    rows = [
        {"image_id": f"{number}.png", "source": "padchest", "patient_id": f"p{number}", "view": "PA", "Effusion": 0}
        for number in range(len(pixels))
    ]
    # Like the other store's in all that merging asks for.
    settings = {"source": "padchest", "fit": "crop", "size": SIDE, "bits": 8, "shard_mib": 256}
    writer = StoreWriter(path, Plan(settings, ["Effusion"]))
    writer.write_shard(0, pixels, rows, [])
    writer.finish()
    Store.open(path)


def shortened(recipe: str) -> list[str]:
    """What makes a run by a recipe a matter of three steps on a few small films."""
    return [*options(find_recipe(recipe))[2:], "--backbone.name=test_resnet"]


def make_run(path: Path, recipe: str, store: Path) -> None:
    """A run of three steps."""
    assert main(["pretrain", "--config", recipe, f"--store={store}", f"--run={path}", *shortened(recipe)]) == 0


def make_trials(path: Path, run: Path, store: Path) -> None:
    """Probes of a run and of a random start on one finding."""
    words = ["probe", f"moco={run}", "random", f"--store={store}", f"--out={path}", "--findings", "Effusion"]
    assert main([*words, "--shots", "1", "5", "--draws", "2"]) == 0


def make_model(path: Path, run: Path, store: Path) -> None:
    """A model with a probe of a finding."""
    assert main(["export", str(run), str(path), f"--store={store}", "--finding", "Effusion"]) == 0
