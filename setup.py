"""Builds the compiled kernels: one extension for each instruction set, and the runtime that chooses among them."""

from __future__ import annotations

import os
import platform
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "fastnn/_kernels/native"
#: -O3 for vector code, but nothing that changes results; no -march=native: a wheel runs on every processor.
COMMON = [
    *("-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"),
    "-fno-strict-aliasing",  # kernels read the sizes of a call as a struct of their own
]
ISA_FLAGS = {
    "base": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": [
        *("-mavx2", "-mfma", "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw"),
        "-mprefer-vector-width=512",
    ],
}

if os.environ.get("FASTNN_SANITIZE"):  # such as "address,undefined": see .ci/sanitize
    COMMON += [f"-fsanitize={os.environ['FASTNN_SANITIZE']}", "-fno-sanitize-recover=undefined", "-O1", "-g"]

NO_COMPILER = """
fastnn: the compiled kernels could not be built ({error}).
They need GCC or Clang and the headers of this Python. Install these (Debian: apt install gcc python3-dev), or install
fastnn without compiled kernels, on plain NumPy, by setting FASTNN_PURE=1:
    FASTNN_PURE=1 pip install .
"""


def sources_below(folder: str, *endings: str) -> list[str]:
    return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(endings)]


def extensions() -> list[Extension]:
    import numpy
    from Cython.Build import cythonize

    depends = sources_below(NATIVE, ".h", ".pxi")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    isas = list(ISA_FLAGS) if x86 else ["base"]  # the baseline is NEON on ARM
    tables = [
        Extension(
            f"fastnn._kernels.native._{isa}",
            [f"{NATIVE}/_{isa}.pyx"],
            extra_compile_args=[*COMMON, *ISA_FLAGS[isa]],
            include_dirs=[NATIVE],
            depends=depends,
        )
        for isa in isas
    ]
    runtime = Extension(
        "fastnn._kernels.native._runtime",
        [f"{NATIVE}/_runtime.pyx", f"{NATIVE}/pool.c"],
        extra_compile_args=[*COMMON, "-ffp-contract=off", "-pthread"],
        extra_link_args=["-pthread"],
        include_dirs=[NATIVE, numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=depends,
    )
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}
    return cythonize([runtime, *tables], compiler_directives=directives, include_path=[NATIVE])  # type: ignore[no-any-return]


class BuildKernels(build_ext):
    """Stops with one message that names the way out where there is no suitable compiler."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # distutils raises several unrelated kinds
            first = (str(error).splitlines() or [type(error).__name__])[0][:200]
            sys.exit(NO_COMPILER.format(error=first))

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            raise RuntimeError("MSVC lacks the vector extensions that the kernels are written in")
        super().build_extensions()


pure = os.environ.get("FASTNN_PURE") == "1"
setup(ext_modules=[] if pure else extensions(), cmdclass={"build_ext": BuildKernels})
