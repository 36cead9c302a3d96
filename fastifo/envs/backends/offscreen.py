"""Frames of MuJoCo simulations, rendered without a display.

A frame is a function of the positions in a simulation and of the settings, not of what was rendered
before. It is upright, as robomimic stores its images: the first row is the top. EGL renders on a
GPU, OSMesa on the CPU; on a machine without a GPU, EGL and OSMesa make the same pixels.
"""

import ctypes.util
import functools
import importlib
import multiprocessing
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.envs.render import FREE, Render, check_cameras
from fastifo.utils.progress import say

LIBRARIES = {  # kind -> library, and the packages of Debian and Ubuntu that have it
    "egl": ("EGL", "libegl1"),
    "osmesa": ("OSMesa", "libosmesa6"),
}
ASKED = os.environ.get("MUJOCO_GL", "").lower()  # by the user; robosuite changes it when imported
MAX_GEOMS = 10_000  # of a scene


def choose_library(name: str) -> str:
    """egl or osmesa: which OpenGL library renders; says once which one it is.

    name: of the environment, for the error.
    Prefers EGL where torch sees a GPU, and OSMesa elsewhere; if it is installed, the one that
    MuJoCo's variable MUJOCO_GL names.
    Raises ImportError naming the system's package if there is none.
    """
    has_gpu = torch.cuda.is_available()
    loaded = os.environ.get("PYOPENGL_PLATFORM", "").lower()  # PyOpenGL cannot change it
    order = [ASKED, "egl", "osmesa"] if has_gpu else [ASKED, "osmesa", "egl"]
    order = [kind for kind in ([loaded] if loaded else order) if kind in LIBRARIES]
    kind = next((kind for kind in order if has_library(kind)), None)
    if kind is None:
        raise ImportError(
            f"{name}: rendering needs the library OSMesa or EGL, found neither; install the "
            f"system's package {LIBRARIES['osmesa'][1]} or {LIBRARIES['egl'][1]}, as with "
            "apt-get install libosmesa6"
        )
    _announce(kind, has_gpu and kind == "egl")
    return kind


@functools.cache
def has_library(kind: str) -> bool:
    return ctypes.util.find_library(LIBRARIES[kind][0]) is not None


@functools.cache
def _announce(kind: str, on_gpu: bool) -> None:
    if multiprocessing.parent_process() is None:
        say(f"rendering with {LIBRARIES[kind][0]} on the {'GPU' if on_gpu else 'CPU'}")


@functools.cache
def open_context(kind: str) -> Any:
    """This process's OpenGL context.  Raises ImportError if the library does not work."""
    try:
        library = importlib.import_module(f"mujoco.{kind}")
        # It lives as long as the process: MuJoCo's finalizer fails when Python shuts down.
        forever = type("Context", (library.GLContext,), {"__del__": lambda self: None})
        # Frames are rendered into buffers of their own; that of the context is not used.
        return forever(1, 1)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise ImportError(
            f"rendering with {kind}: {error}; install {LIBRARIES[kind][1]}, or set the variable "
            f"MUJOCO_GL to {'osmesa' if kind == 'egl' else 'egl'}"
        ) from None


class MujocoCameras:
    """Cameras of one MuJoCo model."""

    def __init__(self, name: str, model: Any, render: Render, *, collisions: bool = True) -> None:
        """model: `mujoco.MjModel`.  collisions: show the geoms of group 0.

        Raises ValueError for a camera that the model does not have; ImportError without a library.
        """
        self.mujoco = mujoco = importlib.import_module("mujoco")
        check_cameras(name, render.cameras, model_cameras(model))
        self.gl = open_context(choose_library(name))
        self.gl.make_current()
        self.model, self.render = model, render
        self.data = mujoco.MjData(model)
        self.context = self._make_context()
        self.scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = render.shadows
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = render.reflections
        self.option = mujoco.MjvOption()
        self.option.geomgroup[0] = collisions
        self.cameras = {camera: self._camera(camera) for camera in render.cameras}
        self.viewport = mujoco.MjrRect(0, 0, render.width, render.height)

    def _make_context(self) -> Any:
        """Buffers and textures; the model's own settings are the same afterwards."""
        mujoco, render, settings = self.mujoco, self.render, self.model.vis
        values = (
            (settings.global_, "offwidth", render.width),
            (settings.global_, "offheight", render.height),
            (settings.quality, "offsamples", render.offsamples),
            (settings.quality, "shadowsize", settings.quality.shadowsize * render.shadows),
        )
        before = [(part, key, getattr(part, key)) for part, key, _ in values]
        for part, key, value in values:
            setattr(part, key, value)
        context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        for part, key, value in before:
            setattr(part, key, value)
        return context

    def _camera(self, name: str) -> Any:
        mujoco, camera = self.mujoco, self.mujoco.MjvCamera()
        if name == FREE:
            mujoco.mjv_defaultFreeCamera(self.model, camera)
        else:
            camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        return camera

    def frames(self, data: Any) -> dict[str, NDArray[np.uint8]]:
        """A frame of each camera, [H, W, 3].  data: `mujoco.MjData`; its positions are read."""
        mujoco, model, own = self.mujoco, self.model, self.data
        # Places of bodies in `data` are those before its last substep, and the simulation reads
        # them: they are computed apart.
        own.qpos[:] = data.qpos
        own.mocap_pos[:], own.mocap_quat[:] = data.mocap_pos, data.mocap_quat
        for stage in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_tendon):
            stage(model, own)
        self.gl.make_current()
        # The process's environments share one OpenGL context and take turns.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        result = {}
        for name, camera in self.cameras.items():
            mujoco.mjv_updateScene(model, own, self.option, None, camera, everything, self.scene)
            mujoco.mjr_render(self.viewport, self.scene, self.context)
            pixels = np.empty((self.render.height, self.render.width, 3), np.uint8)
            mujoco.mjr_readPixels(pixels, None, self.viewport, self.context)
            result[name] = np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the bottom
        return result

    def close(self) -> None:
        """Frees the buffers."""
        self.gl.make_current()
        self.context.free()


def model_cameras(model: Any) -> list[str]:
    """Names of a MuJoCo model's cameras, and that of the free camera."""
    return [FREE, *(name for i in range(model.ncam) if (name := model.camera(i).name))]
