"""What every layer is: parameters, kernels wired in `forward`, and a name for its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _kernels as k
from .._arrays import check_range
from .._errors import DTypeError, ShapeError
from .._kernels import Array
from .._kernels.kernel import REAL
from .._kernels.replay import Replayer, another, without_gaps
from .padded import Padded, check_lengths, placed, split, through
from .parameter import Parameter, Segment

if TYPE_CHECKING:
    from ..summary import Summary

#: Takes the gradient of the loss by a layer's output and returns that by its input, None with ``need_dx=False``.
Backward = Callable[..., Any]


_REPLAYED = 1 << 16  #: numbers in a batch, at most, whose forward pass is replayed; beyond, Python's time is nothing
_REAL: tuple[np.dtype[Any], ...] = tuple(np.dtype(name) for name in REAL)


class Layer:
    """Base class of layers and models.

    A layer of one's own defines ``forward(x, train)``, which calls kernels or other layers and returns the output and
    the backward function ``backward(dy, need_dx=True) -> dx``. Attributes that are a `Parameter` or a `Layer` are
    found by themselves. A layer keeps nothing of a call: what the backward pass needs lives in its function.
    A layer that holds recurrent layers or attention says ``takes_padded = True`` and passes `Padded` on to them.
    Where a forward decides by its data in Python (``if x.max() > 1: …``), `replays` must be False: `fit`, `predict` and
    `capture` repeat the kernels of earlier calls, and would repeat its choice.
    """

    name: str | None = None  #: where the layer stands in its model, set by the layer that contains it
    #: False for a layer whose forward does more in Python than call the same kernels each time: it is never replayed.
    replays = True
    #: Names of attributes that are arrays beside the parameters and part of `state_dict`: they are changed in place and
    #: by kernels only, never rebound. An attribute that is None is left out.
    buffers: tuple[str, ...] = ()
    takes_padded = False  #: whether forward takes `Padded` batches; a layer that does not is given their values alone
    is_container = False  #: whether it only passes arrays on to layers inside it, so that errors name these
    _replayer: Replayer | None = None  #: replays the forward pass for `scores`

    def __setattr__(self, key: str, value: Any) -> None:
        if isinstance(value, Layer) and value.name is None:
            value.name = key
        super().__setattr__(key, value)
        k.changed()

    def __delattr__(self, key: str) -> None:
        super().__delattr__(key)
        k.changed()

    def forward(self, x: Array, train: bool = False) -> tuple[Any, Backward]:
        """The output for x, and the backward function."""
        raise TypeError(f"{type(self).__name__} defines no forward(x, train)")

    def __call__(self, x: Any) -> Any:
        """The output for x, evaluated (dropout off)."""
        return through(self, self.forward, x, False)[0]

    # --- parameters ----------------

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers directly inside this one, in the order of definition."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def modules(self) -> Iterator[Layer]:
        """This layer and all layers inside it."""
        yield self
        for _, child in self.named_children():
            yield from child.modules()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(PyTorch's key, parameter), each parameter once."""
        seen: set[int] = set()
        for name, parameter in self._state(f"{prefix}." if prefix else ""):
            if isinstance(parameter, Parameter) and id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        """(PyTorch's key, array) of all `buffers`, each array once."""
        seen: set[int] = set()
        for name, array in self._state(f"{prefix}." if prefix else ""):
            if not isinstance(array, Parameter) and id(array) not in seen:
                seen.add(id(array))
                yield name, array

    def _state(self, prefix: str) -> Iterator[tuple[str, Parameter | Array]]:
        """Parameters and buffers in PyTorch's order, with all keys that each has."""
        own = vars(self)
        for name, value in own.items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name in self.buffers:
            if own.get(name) is not None:
                yield prefix + name, own[name]
        for name, child in self.named_children():
            yield from child._state(f"{prefix}{name}.")

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (p for _, p in self.named_parameters())

    def zero_grad(self) -> None:
        """Set all gradients to zero and begin a new step; an optimizer's `step` begins one as well."""
        for p in self.parameters():
            p.zero_grad()

    def apply(self, function: Callable[[Layer], Any]) -> Layer:
        """Call a function on each layer inside this one, then on this one, as for new weights; returns the layer."""
        for _, child in self.named_children():
            child.apply(function)
        function(self)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Layer:
        """Freeze all parameters (False) or train them again; returns the layer."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    @property
    def dtype(self) -> str:
        """``"float32"`` or ``"float64"``: the dtype of the parameters, or of the buffers; float32 without any."""
        return next((a.dtype.name for _, a in self._state("") if a.dtype in _REAL), "float32")

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda"``: where the parameters are, or the buffers; ``"cpu"`` without any."""
        return next((k.device_of(a) for _, a in self._values()), "cpu")

    def to(self, device: str) -> Layer:
        """Move parameters, gradients and buffers to ``"cuda"``, an NVIDIA GPU, or to ``"cpu"``; returns the layer.

        `fit`, `evaluate`, `predict` and their like, `save` and `state_dict` then take and return NumPy's arrays as
        before. `forward` takes and returns arrays on the device, which `to_device` moves there and np.asarray copies
        back. An optimizer's state follows with its next update. A layer without CUDA kernels, a recurrent one or
        attention, raises NotImplementedError, naming itself, when it is called.
        Raises ValueError for another name; ImportError without Numba and RuntimeError without a GPU, which say what is
        missing.
        """
        k.check_device(device)
        by_dtype: dict[str, list[Parameter]] = {}
        for p in self.parameters():
            if k.device_of(p.data) != device:
                by_dtype.setdefault(p.dtype.name, []).append(p)
        for same in by_dtype.values():
            Segment(same, device)
        moved: dict[int, Array] = {}
        for layer in self.modules():
            for name in layer.buffers:
                a = getattr(layer, name)
                if a is not None:
                    setattr(layer, name, moved.setdefault(id(a), k.to_device(a, device)))
        return self

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers in C order, under PyTorch's keys and in PyTorch's shapes."""
        return {name: np.array(values, order="C") for name, values in self._values()}

    def _values(self) -> Iterator[tuple[str, Array]]:
        """The arrays that a `state_dict` holds copies of."""
        for name, value in self._state(""):
            yield name, value.data if isinstance(value, Parameter) else value

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy values into parameters and buffers; returns the keys that were missing and those that were unexpected.

        Raises KeyError, which lists all missing and all unexpected keys, unless `strict` is False, and `ShapeError` for
        arrays of another shape; in both cases nothing has been changed. Values are converted to the arrays' dtype.
        """
        own, state = dict(self._values()), state_dict
        missing, unexpected = [key for key in own if key not in state], [key for key in state if key not in own]
        if strict and (missing or unexpected):
            raise KeyError(
                f"{type(self).__name__}: state_dict lacks {missing or 'nothing'}, unexpected: {unexpected or 'nothing'}"
            )
        values = {key: np.asarray(state[key]) for key in own if key in state}
        for key, value in values.items():
            if value.shape != own[key].shape:
                raise ShapeError(f"{type(self).__name__}: expected {key} of shape {own[key].shape}, got {value.shape}")
            if value.dtype.kind not in "fiub":
                raise DTypeError(f"{type(self).__name__}: expected numbers for {key}, got {value.dtype}")
        converted = {key: value.astype(own[key].dtype) for key, value in values.items()}
        for key, value in converted.items():  # nothing can fail from here
            own[key][...] = value
        return missing, unexpected

    def config(self) -> dict[str, Any]:
        """The arguments, JSON values and layers, with which the constructor makes this layer again, without weights."""
        raise TypeError(f"{type(self).__name__} defines no config(), so its architecture cannot be saved")

    def summary(self, input_shape: int | Sequence[int], dtype: str | None = None) -> Summary:
        """A table, when printed, of all layers: their output shapes, parameters, trainable ones and multiply-adds.

        input_shape: of one sample, so without N: ``(1, 28, 28)`` for x (N, 1, 28, 28). dtype: of x, by default the
        parameters'; ``"int64"`` for whole numbers. Two samples of zeros are evaluated; nothing of the model changes.
        Raises `ShapeError`, naming the layer, and `DTypeError`.
        """
        from ..summary import summary  # which needs this module

        return summary(self, input_shape, dtype)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """The layer that `config` described; layers inside it are made already."""
        return cls(**config)

    def __repr__(self) -> str:
        children = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        if children:
            return "\n".join([f"{type(self).__name__}(", *children, ")"])
        try:
            arguments = self.config()
        except TypeError:  # a layer of one's own that cannot be saved
            arguments = {}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    # --- prediction ----------------

    @property
    def vocabulary(self) -> int | None:
        """How many indices there are where the input is made of these, not of real numbers: then from 0, as int64.

        That of the first layer inside, by default. `fit` and `predict` convert and check their data by it.
        """
        return next((child.vocabulary for _, child in self.named_children()), None)

    def scores(self, x: Any, batch_size: int = 256) -> Any:
        """The output for all of x (N, …), or `Padded`, a batch at a time, dropout off. Any real dtype is converted.

        An array, or a tuple of them from a model of several heads.
        """
        plain = isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim > 0  # nothing to convert or to check
        if plain and self._replayer is not None and 0 < len(x) <= batch_size:
            latest = self._replayer.results_like_latest((x,))
            if latest is not None:
                return _heads(np.ascontiguousarray(head) for head in latest)
        parts, device = list(self._batches(x, batch_size)), self.device
        batches = [self._evaluated(placed(part, device), device) for part in parts]
        if len(parts) > 1:
            self._check_samples_first(parts, batches)
        return _heads(
            np.array(outputs[0], order="C") if len(outputs) == 1 else np.ascontiguousarray(np.concatenate(outputs))
            for outputs in zip(*batches, strict=True)
        )

    def _check_samples_first(self, parts: Sequence[Any], outputs: Sequence[tuple[Array, ...]]) -> None:
        """Raise an error unless outputs of parts of the samples can be put together again."""
        for part, heads in zip(parts, outputs, strict=True):
            for head in heads:
                if not head.ndim or len(head) != len(part):
                    raise ShapeError(
                        f"{self.label}: expected an output for each of {len(part)} samples, first of all axes, got "
                        f"{head.shape}; a recurrent layer gives that with batch_first=True and returns='last' or "
                        "'sequence'"
                    )

    def _evaluated(self, x: Array | Padded, device: str) -> tuple[Array, ...]:
        """The heads of one batch; one of a small shape that came before is computed by replaying its kernels."""
        if device != "cpu":
            return tuple(np.asarray(head) for head in self._outputs(x))
        if isinstance(x, Padded) or x.size > _REPLAYED or without_gaps(x) is not x:
            return self._outputs(x)
        if self._replayer is None:
            self._make_replayer()
        replayer: Replayer = self.__dict__["_replayer"]
        found = replayer.results((x,))
        if found is None and replayer.comes_again((x,)):
            replayer.prepare((x,), (another(x),))
            found = replayer.results((x,))
        return self._outputs(x) if found is None else found

    def _make_replayer(self) -> None:
        from .recorded import ModelContext, caller  # which needs this module

        context = ModelContext(self)
        # A new dictionary: another thread may be going through the old one. Not by way of __setattr__: no result
        # depends on it.
        replayer = Replayer(lambda x: context.model._outputs(x), context, caller)
        object.__setattr__(self, "__dict__", {**self.__dict__, "_replayer": replayer})

    def _outputs(self, x: Array | Padded) -> tuple[Array, ...]:
        output = split(self(x))[0]
        return output if isinstance(output, tuple) else (output,)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, by copy.deepcopy or pickle, makes its own records."""
        return {name: value for name, value in vars(self).items() if name != "_replayer"}

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """The most probable class of each sample: (N,) int64; from several heads, a tuple of such arrays."""
        return _heads(scores.argmax(1) for scores in self._class_scores(x, batch_size))

    def predict_proba(self, x: Any, batch_size: int = 256) -> Any:
        """The probability of each class, the softmax of the scores: (N, classes); of several heads, a tuple of them."""
        return _heads(k.softmax(scores) for scores in self._class_scores(x, batch_size))

    def _class_scores(self, x: Any, batch_size: int) -> tuple[Array, ...]:
        """The scores of each head."""
        scores = self.scores(x, batch_size)
        heads: tuple[Array, ...] = scores if isinstance(scores, tuple) else (scores,)
        for head in heads:
            if head.ndim != 2:
                shape = head.shape
                raise ShapeError(f"{self.label}: expected scores of shape (N, classes) to predict from, got {shape}")
        return heads

    def _batches(self, x: Any, batch_size: int) -> Iterator[Array | Padded]:
        x = as_input(x, self, "x")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size: expected a whole number of at least 1, got {batch_size!r}")
        if split(x)[0].ndim < 1:
            raise ShapeError("x: expected a batch of samples (N, …), got a number")
        return (x[i : i + batch_size] for i in range(0, max(len(x), 1), batch_size))

    # --- errors ----------------

    @property
    def label(self) -> str:
        """How errors name the layer: its place in the model and its kind."""
        kind = type(self).__name__
        return kind if self.name is None else f"{self.name} ({kind})"

    def check(self, x: Any, *dims: int | str) -> None:
        """Raise a `ShapeError` or `DTypeError` that names this layer unless x is an array (dims) of the layer's dtype.

        dims: a number for a size that must be met, a letter for any; ``"..."`` first for any leading dimensions.
        """
        if not k.is_array(x):
            raise DTypeError(f"{self.label}: expected a NumPy array, got {type(x).__name__}")
        wanted = _REAL  # compared as dtypes: their names take NumPy microseconds to make
        for p in vars(self).values():
            if type(p) is Parameter:
                wanted = (p.data.dtype,)
                break
        else:
            for name in self.buffers:
                a = getattr(self, name)
                if a is not None and a.dtype in _REAL:
                    wanted = (a.dtype,)
                    break
        if x.dtype not in wanted:
            found = x.dtype.name if x.dtype.isnative else f"{x.dtype.name} in foreign byte order"
            raise DTypeError(f"{self.label}: expected {' or '.join(d.name for d in wanted)}, got {found}")
        if not dims:
            return
        shape, fixed = x.shape, dims
        if dims[0] == "...":
            shape, fixed = x.shape[max(0, x.ndim - len(dims) + 1) :], dims[1:]
        fits = len(shape) == len(fixed)
        for size, found in zip(fixed, shape, strict=False):
            if size != found and type(size) is not str:
                fits = False
        if not fits:
            raise ShapeError(f"{self.label}: expected ({', '.join(map(str, dims))}), got {x.shape}")


def _heads(arrays: Iterable[Array]) -> Any:
    """One array as it is, several as a tuple."""
    heads = tuple(arrays)
    return heads if len(heads) > 1 else heads[0]


def check_train(layer: Layer, train: Any, others: str) -> None:
    """Raise a TypeError that names the layer unless train is True or False; others: how further arguments are named."""
    if not isinstance(train, bool | np.bool_):
        raise TypeError(f"{layer.label}: expected train as True or False, got {type(train).__name__}; {others} by name")


def check_gradient(layer: Layer, dy: Any, shape: tuple[int, ...]) -> None:
    """Raise a `ShapeError` that names the layer unless dy has the output's shape, before any gradient is touched."""
    if not k.is_array(dy):
        raise DTypeError(
            f"{layer.label}: expected the gradient of its output as a NumPy array, got {type(dy).__name__}"
        )
    if dy.shape != shape:
        raise ShapeError(f"{layer.label}: expected the gradient of its output, {shape}, got {dy.shape}")


def as_real(x: Any, dtype: str, what: str) -> Array:
    """x as an array of `dtype`, converted if it holds real numbers of another kind; anything else is a `DTypeError`."""
    a = np.asarray(x) if k.device_of(x) == "cpu" else x
    if a.dtype.kind not in "fiub":
        raise DTypeError(f"{what}: expected real numbers (to be used as {dtype}), got {a.dtype}")
    return a if a.dtype == dtype else a.astype(dtype)


def as_input(x: Any, model: Layer, what: str) -> Any:
    """x as the model takes it: real numbers of its dtype, or int64 indices into its vocabulary, which are checked.

    Of `Padded` the values; its lengths are checked as well.
    """
    if isinstance(x, Padded):
        values = as_input(x.values, model, what)
        lengths = np.asarray(x.lengths)
        lengths = lengths.astype(np.int64) if lengths.dtype.kind in "iu" else lengths
        if values.ndim < 2:
            raise ShapeError(f"{what}: expected padded sequences (N, T, …), got {values.shape}")
        check_lengths(lengths, values.shape[0], values.shape[1], f"{what}.lengths")
        return Padded(values, lengths)
    if model.vocabulary is None:
        return as_real(x, model.dtype, what)
    a = np.asarray(x)
    if a.dtype.kind not in "iu" and a.size:
        raise DTypeError(f"{what}: expected whole numbers, indices below {model.vocabulary}, got {a.dtype}")
    check_range(a, model.vocabulary, what, "indices")
    converted: Array = a.astype(np.int64, copy=False)
    return converted


def contiguous(x: Array) -> Array:
    """x in C order, copied by a kernel if need be, so that a reshape never copies."""
    return x if x.flags.c_contiguous else k.copy(x, channels_last=False)


#: The layers that a file's architecture may name.
REGISTRY: dict[str, type[Layer]] = {}


def register(cls: type[Layer]) -> type[Layer]:
    """Let `save` and `load` know a layer by the name of its class."""
    REGISTRY[cls.__name__] = cls
    return cls
