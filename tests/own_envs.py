"""Environments of a user: small tasks with Gymnasium's interface, and some that misbehave."""

import os
import signal
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Line(gymnasium.Env[Any, Any]):
    """A point on a line: the reward is high near 0, and reaching 0 is success."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, limit: int = 20, goal: float = 0.0, high: float = 2.0) -> None:
        self.action_space: Any = spaces.Box(-high, high, (1,))
        self.limit = limit
        self.goal = goal

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1), 0
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.array([self.x, self.t / 20], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += 0.1 * float(action[0]) + 0.01 * self.np_random.normal()
        self.t += 1
        success = abs(self.x - self.goal) < 0.05
        over = abs(self.x) > 3
        return self._obs(), -abs(self.x), over, self.t >= self.limit, {"success": success}


class Unlimited(Line):
    """Never ends."""

    def step(self, action: Any) -> Any:
        obs, reward, _, _, _ = super().step(action)
        return obs, reward, False, False, {}


class Goal(Line):
    """Observations are a Dict, one entry of which is nested."""

    observation_space = spaces.Dict(
        {
            "point": spaces.Box(-np.inf, np.inf, (2,)),
            "goal": spaces.Dict({"x": spaces.Box(-9, 9, ()), "y": spaces.Box(-9, 9, (1,))}),
        }
    )

    def _obs(self) -> Any:
        goal = {"x": np.float32(self.goal), "y": np.array([7], np.float32)}
        return {"goal": goal, "point": super()._obs()}


class Diverging(Line):
    """Its third observation is nan, or its reward."""

    def __init__(self, what: str = "obs") -> None:
        super().__init__()
        self.what = what

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.t == 3:
            obs, reward = (obs * np.nan, reward) if self.what == "obs" else (obs, np.inf)
        return obs, reward, terminated, truncated, info


class Dying(Line):
    """Ends its process in episodes whose start is beyond a place."""

    def __init__(self, place: float = 0.5) -> None:
        super().__init__()
        self.place = place

    def step(self, action: Any) -> Any:
        if self.t == 0 and self.x > self.place:
            os._exit(7)
        return super().step(action)


class Failing(Line):
    """Raises an error of its own."""

    def step(self, action: Any) -> Any:
        raise KeyError("my own bug")


class Answering(Goal):
    """Its steps return what it was made with, in place of its own answer."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, _ = super().step(action)
        names = ("obs", "reward", "terminated", "truncated")
        own = (obs, reward, terminated, truncated)
        answer = (self.answers.get(n, value) for n, value in zip(names, own, strict=True))
        return *answer, {k: v for k, v in self.answers.items() if k == "success"}


class Unseeded(Line):
    """Its reset takes no seed."""

    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class OldInterface(Line):
    """Returns what the package `gym` returned."""

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


class WrongWidth(Line):
    """Observations are not those of its space."""

    def _obs(self) -> Any:
        return np.zeros(3, np.float32)


class Walk(Line):
    """Its episodes depend on what was played before, unless they start from a seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        answer = super().reset(seed=seed)
        self.limit = int(self.np_random.integers(3, 30))
        return answer


class Buttons(Line):
    """Its actions are discrete."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Discrete(3)


class Drawn(Line):
    """Draws its point as a white column of 8 x 8 pixels."""

    def render(self) -> Any:
        frame = np.zeros((8, 8, 3), np.uint8)
        frame[:, int(np.clip(4 + 4 * self.x, 0, 7))] = 255
        return frame


class Redrawn(Drawn):
    """Draws its frames into one array."""

    def render(self) -> Any:
        self.frame = getattr(self, "frame", np.zeros((8, 8, 3), np.uint8))
        self.frame[:] = super().render()
        return self.frame


class Boxes(Line):
    """Has a MuJoCo model: a red box that moves along x, above a green one that does not."""

    XML = """
    <mujoco>
      <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
      <worldbody>
        <camera name="front" pos="0 -4 0" xyaxes="1 0 0 0 0 1"/>
        <camera name="back" pos="0 4 0" xyaxes="-1 0 0 0 0 1"/>
        <body pos="0 0 0.8">
          <joint type="slide" axis="1 0 0"/><geom type="box" size=".3 .3 .3" rgba="1 0 0 1"/>
        </body>
        <geom type="box" pos="0 0 -0.8" size=".3 .3 .3" rgba="0 1 0 1"/>
      </worldbody>
    </mujoco>"""

    def __init__(self) -> None:
        import mujoco

        super().__init__()
        self.model = mujoco.MjModel.from_xml_string(self.XML)
        self.data = mujoco.MjData(self.model)

    def _obs(self) -> Any:
        self.data.qpos[0] = self.x
        return super()._obs()


def make_line(goal: float = 0.0) -> Line:
    """As a function."""
    return Line(goal=goal)


def make_killed() -> Any:
    """The system ends the process meanwhile, as when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def make_number() -> int:
    """Makes no environment."""
    return 3


class Track(Line):
    """The action moves the point, which starts at 0 and is not disturbed; the cost is x squared."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))

    def __init__(self, limit: int = 20) -> None:
        super().__init__(limit, high=1.0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        gymnasium.Env.reset(self, seed=seed)
        self.x, self.t = 0.0, 0
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.array([self.x], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        self.t += 1
        return self._obs(), -(self.x**2), False, self.t >= self.limit, {}


def steer(obs: Any) -> Any:
    """The expert of `Track`: back to 0 in one step."""
    return np.clip(-obs[:, :1], -1.0, 1.0)
