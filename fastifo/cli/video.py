"""`fastifo video`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fastifo.cli.options import choose_member, env_kwargs
from fastifo.engine.reopen import open_run
from fastifo.envs.film import SIZE, film
from fastifo.envs.spec import as_spec
from fastifo.report.video import check_name, default_suffix, write_video
from fastifo.utils.files import check_writable


@dataclass(frozen=True)
class Video:
    """Record an episode of a run's policy as a video.

    The policy may act on images or on observations. No display is needed; MP4 needs the package av.

    Needs     a run folder of `fastifo train`, in an environment of robosuite, of Gymnasium or your
              own; EnvPool's environments are played by Gymnasium where it has them
    Writes    one file, --out
    Example   fastifo video runs/vfo_bin --out walker.gif --episode 3
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    out: Path | None = None
    """File to write, .mp4 or .gif. Default: video.mp4 (without av video.gif) in the run folder."""
    member: str = "0"
    """Which policy: its number, or best, the one with the highest return in `fastifo evaluate`."""
    camera: str = ""
    """Camera of the environment. Default: agentview or track if it has them, otherwise another."""
    size: int = SIZE
    """Height and width of the frames in pixels."""
    episode: int = 0
    """Number of the episode, which selects its start state."""
    seed: int = 0
    """Seed of the start states, as in `fastifo evaluate`."""
    play: Literal["mode", "sampled"] = "mode"
    """Actions: the policy's mode, or samples."""
    max_steps: int = 0
    """Length of the video in steps; 0: until the episode ends."""
    env_id: str = ""
    """Environment, if the run does not name one."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE: settings of the environment."""

    def main(self) -> None:
        """Writes the file and prints its path and the episode's return."""
        out = self.out or self.run / f"video{default_suffix()}"
        check_name(out)
        run = open_run(self.run)
        check_writable(out)
        env = as_spec(
            self.env_id or run.require_env(), kwargs=env_kwargs(self.env_arg),
            settings=run.env_kwargs, obs_keys=run.obs_keys,
        )  # fmt: skip
        member = choose_member(run, self.member)
        shot = film(
            run.policy(member), env, camera=self.camera, height=self.size, width=self.size,
            episode=self.episode, seed=self.seed, deterministic=self.play == "mode",
            max_steps=self.max_steps,
        )  # fmt: skip
        write_video(out, shot.frames, shot.frames_per_s)
        success = {1.0: ", success", 0.0: ", no success"}.get(shot.success, "")
        print(
            f"return {shot.return_:g} in {len(shot.frames) - 1} steps{success}, seen by "
            f"{shot.camera}"
        )
        print(f"video   {out}")
