"""The errors that fastnn raises on bad input; each is also the built-in error that a caller would expect."""


class ShapeError(ValueError):
    """An array's shape is not what a layer or kernel expects."""


class DTypeError(TypeError):
    """An array's dtype is not what a layer or kernel expects."""
