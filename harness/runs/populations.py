"""Populations of random latents: controls that are collected, explained and scored as a coder's own latents are.

Which latents of a coder are chosen is known only when its store is there, and a population is matched to them: so
each kind of population has a store of its own, collected in a pass of its own, and changes nothing of the coder's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import StoreError, TaskError
from harness.runs.collecting import collected, is_collected, store_folder
from harness.runs.keys import latent_order
from harness.runs.parts import Crew
from harness.runs.progress import Progress
from harness.runs.selection import choose, eligible
from harness.runs.stop import Stop
from harness.runs.units import PopulationPlace
from harness.store import CoderReader, Store
from harness.subject.plan import CollectionPlan
from harness.task import CoderSettings, Control, Task
from harness.validation import naming
from harness.values import seed_of

__all__ = ["CANDIDATES", "Population", "nearest", "open_populations", "population_name", "random_coders"]

# directions drawn for a latent, of which one is taken: of one token rate some fire in few windows and some in many
CANDIDATES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Random latents at a coder's hookpoint, matched in firing rate to its chosen ones.

    `of` is the coder and `settings` are those of the random one; `latents` are in the order of those that they were
    matched to, `matched`.
    """

    control: Control
    of: str
    settings: CoderSettings
    reader: CoderReader
    latents: tuple[int, ...]
    matched: tuple[int, ...]

    @property
    def place(self) -> PopulationPlace:
        """Its name, control, store and coder."""
        return PopulationPlace(self.reader.name, self.control, self.reader.store.id, self.settings)


def population_name(coder: str, control: Control) -> str:
    """What a population is called as a coder; no [[coder]] of a task can be called so."""
    return f"{coder}~{control}"


async def open_populations(
    task: Task,
    store: Store,
    chosen: Mapping[str, Sequence[int]],
    progress: Progress,
    stop: Stop,
    *,
    collect: bool = True,
    crew: Crew | None = None,
) -> tuple[Population, ...] | None:
    """The populations that a task asks for, collected if need be; None if that was stopped.

    `chosen` are the latents of each coder that the run works on, which `--limit` may have cut short.

    Raises:
        UserError: a coder has no hookpoint or no latent that fires, none of the random ones is eligible, or, without
            `collect`, they are not collected yet.
    """
    found: list[Population] = []
    for control in task.populations:
        coders = random_coders(task, store, control)
        if not is_collected(store_folder(task, coders)):
            if not collect:
                raise StoreError(
                    f"{task.source}: controls: the {control} latents are not collected yet: give --collect to collect "
                    "them now (no model is asked), or run the task with --limit 5 first"
                )
            progress.note(f"the subject reads the text once more for the control {control}")
        held = await collected(task, coders, progress, stop, crew)
        if held is None:
            return None
        for coder, settings in zip(task.coder, coders, strict=True):
            real, reader, wanted = store.coder(coder.name), held.coder(settings.name), chosen[coder.name]
            match = _directions if control == "random-direction" else _latents
            latents, matched = match(task, real, reader, wanted)
            found.append(Population(control, coder.name, settings, reader, tuple(latents), tuple(matched)))
            if (missing := len(wanted) - len(latents)) > 0:
                progress.note(f"{reader.name}: {missing} of {len(wanted)} latents have no match")
    return tuple(found)


def random_coders(task: Task, store: Store, control: Control) -> tuple[CoderSettings, ...]:
    """A random coder for each of a task's coders: `random-direction` or `random-coder`.

    Some directions for each chosen latent, thresholded to that latent's token rate; or a TopK autoencoder of as many
    latents as the coder has and its mean number of active ones.

    Raises:
        UserError: a coder reads no activations, or no latent is eligible or fires.
    """
    assert task.subject is not None
    with naming(task.source):
        infos = CollectionPlan.of(task.subject, task.coder, task.base).infos
    made = []
    for coder, info in zip(task.coder, infos, strict=True):
        reader = store.coder(coder.name)
        if info.d_in is None:
            raise TaskError(f'{task.source}: controls: "{control}": coder "{coder.name}" reads no activations')
        own = _rates(task, reader) if control == "random-direction" else _active(reader)
        bare = CoderSettings(
            name=coder.name, kind="random-sae", hookpoint=coder.hookpoint, input=coder.input, width=info.d_in
        )
        seed = seed_of(task.seed, coder.name, control) % 2**63
        made.append(bare.model_copy(update={"name": population_name(coder.name, control), "seed": seed, **own}))
    return tuple(made)


def _rates(task: Task, reader: CoderReader) -> dict[str, object]:
    """Directions for all latents that a task chooses, whatever the limit: more of them change no other."""
    rates = reader.statistics.rate[_firing(reader, choose(task, reader))]
    if not len(rates):
        raise TaskError(f'{task.source}: controls: no chosen latent of coder "{reader.name}" fires: nothing to match')
    # rates are gone through again and again: direction i has that of latent i modulo their number
    return {"kind": "random-directions", "latents": CANDIDATES * len(rates), "rate": tuple(rates.tolist())}


def _active(reader: CoderReader) -> dict[str, object]:
    k = max(1, min(reader.n_latents, round(reader.statistics.l0)))
    return {"kind": "random-sae", "latents": reader.n_latents, "k": k}


def _firing(reader: CoderReader, latents: Sequence[int]) -> list[int]:
    firings = reader.statistics.firings
    return [index for index in latents if firings[index]]


_Matches = tuple[Sequence[int], Sequence[int]]


def _latents(task: Task, real: CoderReader, reader: CoderReader, chosen: Sequence[int]) -> _Matches:
    """For each latent in turn the random coder's that fires in the most similar number of windows, and which it is."""
    window = task.examples.window
    order = latent_order(task.seed, reader.name, reader.n_latents)
    candidates = order[eligible(task, reader)[order]]
    if not len(candidates):
        raise TaskError(
            f'{task.source}: controls: no latent of the random coder beside coder "{real.name}" has at least '
            f"{task.latents.min_examples} activating windows: lower latents.min_examples, or leave random-coder out"
        )
    places = nearest(real.windows(window)[list(chosen)], reader.windows(window)[candidates])
    return [int(candidates[place]) for place in places], chosen[: len(places)]


def _directions(task: Task, real: CoderReader, reader: CoderReader, chosen: Sequence[int]) -> _Matches:
    """For each latent that fires the one of its own directions that does in the most similar number of windows."""
    firing = _firing(real, chosen)
    window, fit = task.examples.window, eligible(task, reader)
    counts, every = reader.windows(window), reader.n_latents // CANDIDATES
    taken = []
    for at, count in enumerate(real.windows(window)[firing].tolist()):
        own = np.arange(at, reader.n_latents, every)
        # the latents were eligible, too; where no direction is, it is a failure that shows
        own = own[fit[own]] if fit[own].any() else own
        taken.append(int(own[nearest([count], counts[own])[0]]))
    return taken, firing


def nearest(wanted: ArrayLike, candidates: ArrayLike) -> list[int]:
    """For each wanted count in turn the place of the candidate whose count is nearest by ratio, none taken twice.

    Both are counts of windows out of equally many, whole numbers from 0 on; of equally near candidates the first is
    taken. Where there are fewer candidates, the last wanted get none.
    """
    # none at all is nearer to one than to two
    logs = np.log(np.maximum(np.asarray(candidates, dtype=np.float64), 0.5))
    free: NDArray[np.bool_] = np.ones(len(logs), dtype=bool)
    found: list[int] = []
    for rate in np.log(np.maximum(np.asarray(wanted, dtype=np.float64), 0.5))[: len(logs)].tolist():
        place = int(np.argmin(np.where(free, np.abs(logs - rate), np.inf)))
        free[place] = False
        found.append(place)
    return found
