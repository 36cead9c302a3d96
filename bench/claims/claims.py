"""The claims of the VfO paper (V1 to V13) and of the TGE paper (T1 to T4), and what decides each.

Sources: arXiv 2507.06701 and arXiv 2601.00452. Both show figures without tables, so each claim is
written as comparisons here; "near" and "at least" mean 0.9 times the other, "weak" means below 1.1
times the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from bench.claims import sources
from bench.claims.evidence import Finding, Source, decide

Check = Callable[[Source], Iterable[Finding]]
VARIANTS = ("vfo_bin", "vfo_disc")
TASKS = ("HalfCheetah-v4", "Ant-v4", "Walker2d-v4", "Hopper-v4")
MAIN = partial(sources.study_source, "main.csv")
EARLY = partial(sources.study_source, "main.csv", (256, 50_000), is_small=True)
TGE = partial(sources.study_source, "tge-study.csv", (256, 100_000))
OF_MODES = {  # the same rows, with the returns of the policies' modes
    "main.csv": partial(MAIN, actions="mode"), "tge-study.csv": partial(TGE, actions="mode"),
}  # fmt: skip
SIBENCH = partial(
    sources.small_source, "sibench-all.csv", "128 x 2, 10,000 updates", "sibench.md",
    figure="sibench-all-differences.png",
)  # fmt: skip
SENSITIVITY = partial(
    sources.small_source, "sensitivity.csv", "128 x 2, 10,000 updates", "sibench.md",
    figure="sensitivity-sweeps.png",
)  # fmt: skip
MEDIUM = partial(
    sources.small_source, "tge-medium.csv", "128 x 2, 15,000 updates, a model of 600 updates",
    "tge.md", "mode", "tge-differences.png",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What one source says about a claim."""

    source: Source
    findings: tuple[Finding, ...]
    holds: bool | None

    @property
    def missing(self) -> int:
        """Comparisons whose rows are missing."""
        return sum(finding.is_missing for finding in self.findings)


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, and where its comparisons find their rows."""

    number: str
    text: str
    check: Check
    sources: tuple[Callable[[], Source], ...]  # the study first, then small ones
    share: float = 1.0  # of the comparisons that have to hold

    def answers(self) -> list[Answer]:
        """What each source says, in their order."""
        result = []
        for make in self.sources:
            source = make()
            findings = tuple(self.check(source))
            result.append(Answer(source, findings, decide(findings, self.share)))
        return result


def middle(source: Source) -> str:
    """Name of the sets of medium quality."""
    return "" if source.file == "horizon.csv" else "middle"


def oracle(source: Source, task: str) -> str:
    """The better of AWR's two terminal rules, where both were run."""
    which = middle(source)
    rules = [
        (found.mean, name)
        for name in ("awr", "awr true_mdp")
        if (found := source.find(task, which, name)) is not None
    ]
    return max(rules, default=(0.0, "awr"))[1]


def improves_near_oracle(source: Source) -> Iterable[Finding]:
    """V1."""
    which = middle(source)
    for task in ("HalfCheetah-v4", "Ant-v4"):
        for method in VARIANTS:
            yield source.compare(task, which, method, "background")
            yield source.compare(task, which, method, oracle(source, task), factor=0.9)


def weak_on_hopper(source: Source) -> Iterable[Finding]:
    """V2."""
    methods = ("bc", oracle(source, "Hopper-v4"), *VARIANTS)
    for method in methods:
        yield source.compare(
            "Hopper-v4", middle(source), method, "background", factor=1.1, expects=False
        )


def order_on_walker(source: Source) -> Iterable[Finding]:
    """V3."""
    task, which = "Walker2d-v4", middle(source)
    awr = oracle(source, task)
    yield source.compare(task, which, "vfo_disc", awr, factor=0.9)
    yield source.compare(task, which, "vfo_disc", "vfo_bin")
    yield source.compare(task, which, awr, "vfo_bin")


def baselines_rarely_improve(source: Source) -> Iterable[Finding]:
    """V4."""
    pairs = [(task, "middle") for task in TASKS]
    if source.document:
        pairs = list(source.backgrounds)
    for task, which in pairs:
        for method in ("smodice", "dilo"):
            yield source.compare(task, which, method, "background", expects=False)


def mixtures(source: Source) -> list[tuple[str, str]]:
    """Tasks and sets of bimodal data with a fifth and a half of expert episodes."""
    names = ("expert=40", "expert=100") if source.document else ("expert=200", "expert=500")
    return [(task, name) for task in ("HalfCheetah-v4", "Walker2d-v4") for name in names]


def ranking_is_opposite(source: Source) -> Iterable[Finding]:
    """V5."""
    for task, which in mixtures(source):
        for baseline in ("smodice", "dilo"):
            for method in VARIANTS:
                yield source.compare(task, which, baseline, method)


def dilo_reaches_the_expert(source: Source) -> Iterable[Finding]:
    """V6."""
    for task, which in mixtures(source)[::2]:
        expert = source.experts.get((task, which), 0.0)
        background = source.find(task, which, "background")
        if not expert or background is None:
            yield Finding(None, f"{task} {which}: dilo missing", is_missing=True)
            continue
        yield source.compare(
            task, which, "dilo", "background", offset=round(0.9 * expert - background.mean)
        )


def cloning_improves(source: Source) -> Iterable[Finding]:
    """V7."""
    for task, which in mixtures(source):
        yield source.compare(task, which, "bc", "background")


def vfo_is_below_cloning(source: Source) -> Iterable[Finding]:
    """V8."""
    for task, which in mixtures(source):
        for method in VARIANTS:
            yield source.compare(task, which, method, "bc", expects=False)


def robomimic_order(source: Source) -> Iterable[Finding]:
    """V9; 5 points are level."""
    yield source.compare("gain", "", "vfo_bin", "awr", offset=-5.0)
    for method in ("vfo_disc", "smodice", "dilo"):
        yield source.compare("gain", "", method, "vfo_bin", expects=False)


def images_improve(source: Source) -> Iterable[Finding]:
    """V10."""
    for method in ("awr", "vfo_bin"):
        yield source.compare("Lift", "", method, "background")


def last_iteration(source: Source, task: str) -> int:
    """The last iteration of self-improvement that there are rows of."""
    numbers = [int(w.split()[1]) for t, w, _ in source.policies if t == task and "improve" in w]
    return max(numbers, default=10)


def bin_improves_itself(source: Source) -> Iterable[Finding]:
    """V11."""
    for task in ("HalfCheetah-v4", "Ant-v4")[: 1 if source.document else 2]:
        which = f"improve {last_iteration(source, task)}"
        yield source.compare(task, which, "vfo_bin", "background")
        yield source.compare(task, which, "vfo_bin", "awr", factor=0.9)
        yield source.compare(task, which, "smodice", "background", expects=False)


def iterations_still_rise(source: Source) -> Iterable[Finding]:
    """V12: the last iteration is above the one half as long."""
    yield Finding(None, "Hopper-v4: vfo_bin missing", is_missing=True)
    for task in ("HalfCheetah-v4", "Ant-v4", "Walker2d-v4"):
        last = last_iteration(source, task)
        which, numbers = "vfo_bin, iteration", (last, (last + 1) // 2)
        known = {
            (task, which, f"{number}"): found
            for number in numbers
            if (found := source.find(task, f"improve {number}", "vfo_bin")) is not None
        }
        part = Source(source.file, source.size, source.is_small, policies=known)
        yield part.compare(task, which, f"{numbers[0]}", f"{numbers[1]}")


def settings_hardly_matter(source: Source) -> Iterable[Finding]:
    """V13."""
    task, which = "HalfCheetah-v4", "d=5"
    for temperature in ("0.1", "0.3", "1.0", "3.0"):
        method = f"vfo_bin temperature={temperature} alpha=0.5"
        yield source.compare(task, which, method, "background")
    for alpha in ("0.1", "0.9"):
        method = f"vfo_bin temperature=1.0 alpha={alpha}"
        yield source.compare(task, which, method, "vfo_bin temperature=1.0 alpha=0.5", factor=0.9)


def tge_beats_baselines(source: Source) -> Iterable[Finding]:
    """T1."""
    for task in ("HalfCheetah-v4", "Walker2d-v4"):
        for method in ("seabo", "otr", "smodice", "dilo"):
            which = "expert=0"
            yield source.compare(task, which, "tge", method, factor=0.9)


def beats_variant(
    source: Source, *, rewards: str, ablation: tuple[str, str], variant: str
) -> Iterable[Finding]:
    """T2 and T3: TGE is above a variant, named in health.csv, ablation.csv and the study."""
    if source.file == "health.csv":
        for task in ("Hopper-v4", "Walker2d-v4"):
            yield source.compare(task, "AUC", "kernel_of_mean, 32 rows", rewards)
    elif source.document:
        yield source.compare("Walker2d-v4", "", *ablation)
    else:
        for task in ("HalfCheetah-v4", "Walker2d-v4"):
            yield source.compare(task, "expert=0", "tge", variant)


windows_beat_rows = partial(
    beats_variant, rewards="kernel_of_mean, 1 rows", ablation=("horizon=32", "horizon=1"),
    variant="tge horizon=1",
)  # fmt: skip
log_beats_gaussian = partial(
    beats_variant, rewards="gaussian, 32 rows",
    ablation=("tge_reward=kernel_of_mean", "tge_reward=gaussian"), variant="tge gaussian",
)  # fmt: skip


def sigma_hardly_matters(source: Source) -> Iterable[Finding]:
    """T4."""
    for sigma in ("0.1", "0.3", "3.0"):
        yield source.compare(
            "Walker2d-v4", "", f"sigma={sigma}", "tge_reward=kernel_of_mean", factor=0.9
        )


VFO = (
    Claim("V1", "SIBench, HalfCheetah and Ant: both variants improve on the background and are "
          "near the AWR oracle.", improves_near_oracle, (MAIN, EARLY, sources.horizon_source)),
    Claim("V2", "SIBench, Hopper: all methods are weak.", weak_on_hopper,
          (MAIN, EARLY, sources.horizon_source)),
    Claim("V3", "SIBench, Walker2d: VfO-disc is near AWR, and both are above VfO-bin.",
          order_on_walker, (MAIN, EARLY, sources.horizon_source)),
    Claim("V4", "SIBench: SMODICE and DILO rarely improve on the background.",
          baselines_rarely_improve, (MAIN, SIBENCH), 0.75),
    Claim("V5", "Bimodal data: the ranking is the opposite, SMODICE and DILO are ahead of VfO.",
          ranking_is_opposite, (MAIN, sources.bimodal_source), 0.75),
    Claim("V6", "Bimodal data: DILO reaches the expert's level from 200 expert episodes of 1000 "
          "on.", dilo_reaches_the_expert, (MAIN, sources.bimodal_source)),
    Claim("V7", "Bimodal data: BC itself improves on the mean of the data.", cloning_improves,
          (MAIN, sources.bimodal_source), 0.75),
    Claim("V8", "Bimodal data: both VfO variants are below BC.", vfo_is_below_cloning,
          (MAIN, sources.bimodal_source), 0.75),
    Claim("V9", "Robomimic, low-dimensional: VfO-bin is level with AWR or better; VfO-disc, "
          "SMODICE and DILO are worse.", robomimic_order,
          (sources.clones_source, sources.manipulation_source)),
    Claim("V10", "Robomimic, images: AWR and VfO-bin improve on Lift.", images_improve,
          (sources.lift_source,)),
    Claim("V11", "Self-improvement: VfO-bin is about as good as AWR, and SMODICE does not "
          "improve.", bin_improves_itself, (MAIN, sources.improve_source)),
    Claim("V12", "Self-improvement with VfO-bin: Hopper levels off at a return of 1500 to 2000; "
          "Ant, HalfCheetah and Walker2d still rise at iteration 20.", iterations_still_rise,
          (MAIN, sources.improve_source)),
    Claim("V13", "Sensitivity: a wide range of temperatures improves on the background, and alpha "
          "from 0.1 to 0.9 changes little, except on Hopper.", settings_hardly_matter,
          (SENSITIVITY,)),
)  # fmt: skip

TGE_CLAIMS = (
    Claim("T1", "TGE matches or beats SEABO, OTR, SMODICE and DILO.", tge_beats_baselines,
          (TGE, MEDIUM)),
    Claim("T2", "Long windows: 32 rows are much better than 1.", windows_beat_rows,
          (TGE, sources.ablation_source, sources.health_source)),
    Claim("T3", "The logarithmic kernel separates expert rewards better than the Gaussian.",
          log_beats_gaussian, (TGE, sources.ablation_source, sources.health_source)),
    Claim("T4", "The kernel's scale sigma matters little from 0.1 to 5.", sigma_hardly_matters,
          (sources.ablation_source,)),
)  # fmt: skip
